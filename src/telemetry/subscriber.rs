//! The one subscriber: takes events and spans, and tells them to whoever is there to be told.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter};

use super::fields::{Fields, clean};
use super::record::RECORD;
use super::sink::{Entry, LogTarget, Severity};
use super::{Audience, NOTE, Verbosity};

/// What our own events and spans begin with; crates that we use have nothing to tell.
const OURS: &str = "ocihsm";

/// Most warnings that become notes of one record.
const MAX_NOTES: usize = 16;

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Tells what happens.
pub(super) struct Teller {
    level: LevelFilter,
    audience: Audience,
    next: AtomicU64,
    steps: Mutex<HashMap<u64, Step>>,
    /// Warnings since the last record.
    notes: Mutex<Vec<String>>,
}

/// A span that is open.
struct Step {
    /// Its name after those that it is in: `decode > unwrap`.
    path: String,
    fields: Fields,
    begin: Instant,
    holders: usize,
}

impl Teller {
    pub(super) fn new(verbosity: Verbosity, audience: Audience) -> Self {
        let level = match (verbosity, &audience) {
            (Verbosity::Silent, Audience::Stderr) => LevelFilter::OFF,
            (_, Audience::Log(LogTarget::Off)) | (Verbosity::Silent | Verbosity::Quiet, _) => {
                LevelFilter::WARN
            }
            (Verbosity::Steps, _) => LevelFilter::INFO,
            (Verbosity::Calls, _) => LevelFilter::DEBUG,
        };
        Self {
            level,
            audience,
            next: AtomicU64::new(1),
            steps: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        if target == RECORD {
            return matches!(&self.audience, Audience::Log(target) if *target != LogTarget::Off);
        }
        let is_ours = target.split("::").next() == Some(OURS);
        is_ours && *metadata.level() <= self.level
    }

    /// The span that it happens in.
    fn parent(&self, is_contextual: bool, parent: Option<&Id>) -> Option<u64> {
        match is_contextual {
            true => ENTERED.with_borrow(|entered| entered.last().copied()),
            false => parent.map(Id::into_u64),
        }
    }

    /// `decode > unwrap: `, or nothing outside of all spans.
    fn path(&self, span: Option<u64>) -> Option<String> {
        Some(locked(&self.steps).get(&span?)?.path.clone())
    }

    fn tell(&self, severity: Severity, text: String) {
        match &self.audience {
            Audience::Stderr => {
                let level = match severity {
                    Severity::Debug => "debug",
                    _ => "info",
                };
                print(&format!("ocihsm: {level}: {text}\n"));
            }
            Audience::Log(target) => {
                let _ = target.write(&Entry::Step(severity, text));
            }
        }
    }

    fn warn(&self, mut fields: Fields) {
        let hint = fields.take("hint");
        let text = sentence(fields);
        match &self.audience {
            Audience::Stderr => {
                let mut lines = format!("ocihsm: warning: {text}\n");
                if let Some(hint) = hint {
                    let _ = writeln!(lines, "ocihsm: hint: {hint}");
                }
                print(&lines);
            }
            Audience::Log(_) => {
                let mut notes = locked(&self.notes);
                if notes.len() < MAX_NOTES && !notes.contains(&text) {
                    notes.push(text);
                }
            }
        }
    }

    /// A record, with the warnings that were raised on the way of its layer.
    fn record_layer(&self, mut fields: Fields) {
        let Audience::Log(target) = &self.audience else {
            return;
        };
        let mut notes: Vec<String> = fields.take("notes").into_iter().collect();
        notes.append(&mut locked(&self.notes));
        if !notes.is_empty() {
            fields.insert("notes", clean(&notes.join("; ")).into());
        }
        let severity = match fields.0.contains_key("error") {
            true => Severity::Error,
            false => Severity::Informational,
        };
        // The layer is what counts; a log that cannot be written stops nothing.
        let _ = target.write(&Entry::Record(severity, fields));
    }
}

impl Subscriber for Teller {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.wants(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // A record is one of this level, however little else is told.
        Some(self.level.max(LevelFilter::INFO))
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = self.parent(attributes.is_contextual(), attributes.parent());
        let name = attributes.metadata().name();
        let step = Step {
            path: match self.path(parent) {
                Some(path) => format!("{path} > {name}"),
                None => name.to_owned(),
            },
            fields,
            begin: Instant::now(),
            holders: 1,
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.steps).insert(id, step);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(step) = locked(&self.steps).get_mut(&span.into_u64()) {
            step.fields.0.extend(fields.0);
        }
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        if metadata.target() == RECORD {
            return self.record_layer(fields);
        }
        if metadata.target() == NOTE && self.audience == Audience::Stderr {
            return print(&format!("ocihsm: note: {}\n", sentence(fields)));
        }
        let severity = match *metadata.level() {
            Level::ERROR | Level::WARN => return self.warn(fields),
            Level::INFO => Severity::Informational,
            _ => Severity::Debug,
        };
        let text = match self.path(self.parent(event.is_contextual(), event.parent())) {
            Some(path) => format!("{path}: {}", sentence(fields)),
            None => sentence(fields),
        };
        self.tell(severity, text);
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            let at = entered
                .iter()
                .rposition(|entered| *entered == span.into_u64());
            if let Some(at) = at {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(step) = locked(&self.steps).get_mut(&span.into_u64()) {
            step.holders += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut steps = locked(&self.steps);
        let Some(step) = steps.get_mut(&span.into_u64()) else {
            return false;
        };
        step.holders -= 1;
        if step.holders > 0 {
            return false;
        }
        let step = steps.remove(&span.into_u64());
        drop(steps);
        if let Some(step) = step {
            let milliseconds = step.begin.elapsed().as_secs_f64() * 1e3;
            let mut text = format!("{}: {milliseconds:.2} ms", step.path);
            if !step.fields.0.is_empty() {
                let _ = write!(text, ", {}", step.fields.pairs());
            }
            self.tell(Severity::Informational, text);
        }
        true
    }
}

/// The message, and then the values that go with it.
fn sentence(mut fields: Fields) -> String {
    let message = fields.take("message").unwrap_or_default();
    let pairs = fields.pairs();
    match (message.is_empty(), pairs.is_empty()) {
        (_, true) => message,
        (true, false) => pairs,
        (false, false) => format!("{message}: {pairs}"),
    }
}

/// In one write, so that lines of several threads and processes do not mix. A closed stderr is no reason to fail.
fn print(lines: &str) {
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

/// None of these is left half changed by a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
