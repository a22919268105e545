//! Reported workers are remembered for a while, and not too many of them.

use super::*;

fn end(agent: &mut Agent, worker: WorkerId) {
    agent.exited(worker, Exit::Code(0));
    agent.acknowledged(worker);
}

#[test]
fn by_age_from_the_acknowledgement() {
    let mut agent = Agent::with(|config| config.retain_for = secs(60));
    let [one, two] = ["one", "two"].map(|job| agent.run(start(job, 1, 1)));
    end(&mut agent, one);
    agent.exited(two, Exit::Code(0));
    agent.advance(secs(30));
    agent.acknowledged(two);
    agent.advance(millis(29_999));
    assert!(agent.worker(one).is_some());
    agent.advance(millis(1));
    assert_eq!((agent.worker(one), agent.journal.row(one)), (None, None));
    assert!(agent.worker(two).is_some());
    agent.advance(secs(30));
    assert_eq!(agent.worker(two), None);
}

#[test]
fn by_number_the_oldest_first() {
    let mut agent = Agent::with(|config| config.retain_most = 2);
    let workers = [1, 2, 3, 4].map(|_| agent.run(start("job", 1, 1)));
    for worker in workers {
        end(&mut agent, worker);
    }
    assert_eq!(workers.map(|worker| agent.worker(worker).is_some()), [false, false, true, true]);
    let effects = agent.effects();
    let discards = effects.into_iter().filter(|effect| matches!(effect, Effect::Discard(_)));
    assert_eq!(discards.collect::<Vec<_>>(), [workers[0], workers[1]].map(Effect::Discard));
}

#[test]
fn what_is_owed_or_alive_is_never_forgotten() {
    let mut agent = Agent::with(|config| {
        config.retain_for = Duration::ZERO;
        config.retain_most = 0;
    });
    let [alive, owed, reported] =
        ["alive", "owed", "reported"].map(|job| agent.run(start(job, 1, 1)));
    agent.exited(owed, Exit::Code(0));
    end(&mut agent, reported);
    agent.advance(secs(24 * 3_600));
    assert_eq!([alive, owed, reported].map(|w| agent.worker(w).is_some()), [true, true, false]);
}

#[test]
fn a_forgotten_key_names_a_new_attempt() {
    let mut agent = Agent::with(|config| config.retain_for = secs(60));
    let asked = with_key("attempt", start("job", 1, 1));
    let first = agent.run(asked.clone());
    end(&mut agent, first);
    agent.advance(secs(60));
    assert_ne!(agent.run(asked), first);
}
