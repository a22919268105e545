//! What would make two runs of the same simulation differ, and no lint forbids, is looked for here.

use std::{fs, path::Path};

#[test]
fn nothing_is_left_to_chance() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/controller");
    let mut read = 0;
    for folder in [root.clone(), root.join("book")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            read += 1;
            for banned in ["spawn_blocking", "tokio::time", "rand::", "uuid::", "watch::"] {
                assert!(!text.contains(banned), "{}: {banned}", path.display());
            }
            for select in text.split("select! {").skip(1) {
                let fixed = select.trim_start().starts_with("biased;");
                assert!(fixed, "{}: a select! without `biased;`", path.display());
            }
        }
    }
    assert!(read >= 10, "only {read} files were found");
}
