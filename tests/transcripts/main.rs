//! Stories of an agent's life: what happens to the machine, and all that it does about it, to the
//! millisecond. Each file in `stories/` is one.
//!
//! ```text
//!  what happens      ───▶  the machine and its journal (story.rs)
//!  (command.rs)                 │
//!  ---                          │
//!  what it does      ◀──────────┘ (lines.rs), compared
//! ```
//!
//! `UPDATE_GOLDENFILES=1 cargo test --test transcripts` writes what the machine does now into the
//! files; `git diff` shows what that changes.

mod command;
mod lines;
mod story;

use std::{fs, path::Path};

use story::Story;

#[test]
fn the_machine_does_what_the_stories_tell() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts/stories");
    let mut stories: Vec<_> = fs::read_dir(&dir)
        .and_then(|files| files.map(|file| Ok(file?.path())).collect())
        .expect("the stories can be listed");
    stories.sort();
    assert!(stories.len() >= 12, "only {} stories in {}", stories.len(), dir.display());
    for path in stories {
        // Shown if it fails.
        println!("{}", path.display());
        goldenscript::run(&mut Story::default(), &path).expect("a story that can be read");
    }
}
