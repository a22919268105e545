//! The simulator's command line.

use arroyo_node_sim::{plan::Plan, world::World};

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory");
    std::env::set_current_dir(dir.path()).expect("it is there");
    let world = World::new(Plan::draw(seed));
    let recorder = world.recorder().clone();
    arroyo_node_sim::watchdog::install(&recorder);
    let started = std::time::Instant::now();
    let outcome = world.run();
    if std::env::var("TRACE").is_ok() {
        for entry in recorder.entries() {
            println!("{entry}");
        }
    }
    println!("{outcome:#?}");
    let wall = started.elapsed().as_secs_f64();
    let simulated = outcome.simulated_us as f64 / 1e6;
    println!("{simulated} s in {wall} s: {}x", simulated / wall);
}
