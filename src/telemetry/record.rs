//! The record of a layer: what an operator who wants to know later is told of it.
//!
//! containerd throws standard error away when a layer succeeds, and sometimes when it fails. It never holds a secret.

use std::time::Duration;

/// Target of the event that is a record.
pub(super) const RECORD: &str = "ocihsm::layer";

/// What happened to one layer; whatever is not known is absent.
#[derive(Clone, Debug, Default)]
pub struct LayerRecord {
    /// Digest of the encrypted layer.
    pub layer: Option<String>,
    /// Media type of the encrypted layer.
    pub media_type: Option<String>,
    /// Bytes of the encrypted layer that were read, once its key was known.
    pub bytes: Option<u64>,
    /// How the layer's descriptor was learned: `payload`, `content store`, …
    pub learned_from: Option<&'static str>,
    /// URI of the key that opened the layer, as it displays itself: without its query, where a PIN may stand.
    pub key: Option<String>,
    /// Scheme of the wrapped key.
    pub scheme: Option<String>,
    /// OAEP hash of the wrapped key.
    pub hash: Option<&'static str>,
    /// Time that the HSM took.
    pub unwrap: Option<Duration>,
    /// Time from the first byte read, be it to verify the layer before it is written, to the last one written.
    pub stream: Option<Duration>,
    /// Message of the error that the layer failed with.
    pub error: Option<String>,
    /// What did not go as it should, and was no reason to fail. Warnings that were raised on the way come after these.
    pub notes: Vec<String>,
}

impl LayerRecord {
    /// Tells it as one event. To be called while standard output is still open, since containerd kills a processor soon
    /// after the end of its output.
    pub fn emit(&self) {
        let milliseconds = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1e3);
        let notes = Some(self.notes.join("; ")).filter(|notes| !notes.is_empty());
        tracing::info!(
            target: RECORD,
            result = if self.error.is_none() { "ok" } else { "failed" },
            layer = self.layer.as_deref(),
            media_type = self.media_type.as_deref(),
            bytes = self.bytes,
            learned_from = self.learned_from,
            key = self.key.as_deref(),
            scheme = self.scheme.as_deref(),
            hash = self.hash,
            unwrap_ms = milliseconds(self.unwrap),
            stream_ms = milliseconds(self.stream),
            error = self.error.as_deref(),
            notes = notes.as_deref(),
        );
    }
}
