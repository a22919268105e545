//! What the compiler does not enforce about the shape of the source: imports go one way, files
//! stay small. (Functions: clippy's `too_many_lines`, see `clippy.toml`.)

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Left may not import from right.
const LAYERS: &[&[&str]] = &[
    &["ids"],
    &["machine"],
    &["supervisor"],
    &["shim"],
    &["mailbox"],
    &["rpc"],
    &["runtime"],
    &["admin", "config", "controller"],
    &["cli"],
    &["lib", "main"],
];

const LONGEST_FILE: usize = 500;

#[test]
fn imports_go_from_left_to_right_only() {
    let mut wrong = Vec::new();
    for file in rust_files(Path::new("src")) {
        let layer = layer_of(&module_of(&file));
        let text = fs::read_to_string(&file).unwrap();
        for (number, imported) in imports(&text) {
            let other = layer_of(&imported);
            let sideways = other == layer && imported != module_of(&file);
            if other > layer || sideways {
                wrong.push(format!("{}:{number} imports crate::{imported}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "against the direction of imports:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let folders = ["src", "model", "sim", "tests", "benches", "fuzz"];
    let files = folders.iter().flat_map(|folder| rust_files(Path::new(folder)));
    let long: Vec<_> = files
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines:\n{}", long.join("\n"));
}

#[test]
fn an_import_against_the_direction_would_be_seen() {
    let text =
        "use crate::{\n    ids::WorkerId,\n    cli::Exit,\n};\nfn f() { crate::rpc::serve() }";
    let imported: Vec<_> = imports(text).into_iter().map(|(_, module)| module).collect();
    assert_eq!(imported, ["ids", "cli", "rpc"]);
    assert!(layer_of("cli") > layer_of("machine"));
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// `src/machine/start.rs` and `src/machine.rs` are of module `machine`.
fn module_of(file: &Path) -> String {
    let first = file.components().nth(1).expect("the file is in src/");
    let stem = Path::new(first.as_os_str()).file_stem().expect("it has a name");
    stem.to_string_lossy().into_owned()
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("module {module} has no place in LAYERS"))
}

/// The modules that a text names after `crate::`, with the lines on which it does.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].lines().count().max(1);
        let commented = text[..at].rsplit('\n').next().is_some_and(|l| l.trim().starts_with("//"));
        if commented {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            None => vec![rest],
            Some(list) => top_level(list),
        };
        for name in names {
            let name: String =
                name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if name.chars().next().is_some_and(char::is_lowercase) {
                found.push((line, name));
            }
        }
    }
    found
}

/// The entries of a braced list, up to its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut entries) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                entries.push(&list[start..at]);
                return entries;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                entries.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries
}
