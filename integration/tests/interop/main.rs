//! The other programs that speak this format, in both roles: what they encrypt we open, what we encrypt they open.
//! Prints a table of which program, of which version, did what.
//!
//! SoftHSM does OAEP with SHA-1 only, and the reference library has no way round that: where a peer needs the token
//! itself, it can do SHA-1, and fails with SHA-256. That, and what else a peer cannot do, is tested too, as a fact about
//! the peer.

mod buildah;
mod ctd_decoder;
mod ctr_enc;
mod row;
mod skopeo;
mod stage;

use std::thread;

use integration::root::Root;
use integration::skip;

use row::Row;
use stage::Stage;

/// What a peer of a root is put through.
type Peer = fn(&Stage) -> Row;

#[test]
fn every_peer_opens_what_we_encrypt_and_we_what_it_encrypts() {
    if !skip::root() || !skip::programs(&["docker-registry"]) {
        return;
    }
    let mut peers: Vec<(Root, Peer)> = Vec::new();
    for root in Root::all() {
        if root.path("usr/bin/skopeo").is_some() {
            peers.push((root.clone(), skopeo::row));
            peers.push((root.clone(), buildah::row));
        }
        if root.path("usr/local/bin/ctr-enc").is_some() {
            peers.push((root.clone(), ctr_enc::row));
            peers.push((root, ctd_decoder::row));
        }
    }
    let rows: Vec<Row> = thread::scope(|scope| {
        let rows: Vec<_> = peers
            .into_iter()
            .map(|(root, peer)| scope.spawn(move || peer(&Stage::new(root))))
            .collect();
        rows.into_iter()
            .map(|row| row.join().expect("a peer disagrees, see above"))
            .collect()
    });
    print!("\n{}", Row::table(rows));
}
