//! The bill of materials, as CycloneDX 1.5 has it: the program, the crates in it, and which is built on which.

use serde_json::{Value, json};

use crate::crates::{Crate, Crates, Key};

/// It, without a time or a number of its own: the same program has the same bill.
pub(crate) fn text(crates: &Crates) -> String {
    let components: Vec<_> = crates.libraries.iter().map(library).collect();
    let dependencies: Vec<_> = [&crates.program]
        .into_iter()
        .chain(&crates.libraries)
        .map(dependency)
        .collect();
    let program = &crates.program;
    let bill = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl(&key(program)),
                "name": program.name,
                "version": program.version,
                "description": program.description,
                "licenses": [{ "expression": program.licence }],
                "purl": purl(&key(program)),
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    format!("{bill:#}\n")
}

fn library(library: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl(&key(library)),
        "name": library.name,
        "version": library.version,
        "description": library.description,
        "scope": "required",
        "licenses": [{ "expression": library.licence }],
        "purl": purl(&key(library)),
    });
    if let Some(checksum) = &library.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    if !library.repository.is_empty() {
        component["externalReferences"] = json!([{ "type": "vcs", "url": library.repository }]);
    }
    component
}

fn dependency(library: &Crate) -> Value {
    let needs: Vec<_> = library.needs.iter().map(purl).collect();
    json!({ "ref": purl(&key(library)), "dependsOn": needs })
}

fn key(library: &Crate) -> Key {
    (library.name.clone(), library.version.clone())
}

/// A version may hold a `+`, which has a meaning of its own there.
fn purl((name, version): &Key) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}
