//! Work that may hang, on a thread of its own: looking at files of a disk that hangs, at processes
//! that are stuck. What waits for the result goes on meanwhile.

use std::{io, sync::mpsc, thread};

type Errand = Box<dyn FnOnce() + Send>;

/// Runs errands one after the other. The thread is started by the first one, and ends when this is
/// dropped and its errand is done.
#[derive(Debug, Default)]
pub(super) struct Errands {
    sender: Option<mpsc::Sender<Errand>>,
}

impl Errands {
    /// Has this done by the thread. The work itself says what came of it.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn run(&mut self, errand: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let sender = match &self.sender {
            Some(sender) => sender,
            None => self.sender.insert(start()?),
        };
        // The thread lives for as long as the sender does.
        let _ = sender.send(Box::new(errand));
        Ok(())
    }
}

fn start() -> io::Result<mpsc::Sender<Errand>> {
    const STACK_BYTES: usize = 128 * 1024;
    let (sender, receiver) = mpsc::channel::<Errand>();
    thread::Builder::new()
        .name("errands".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || receiver.into_iter().for_each(|errand| errand()))?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_are_run_in_order_and_nothing_waits_for_them() {
        let mut errands = Errands::default();
        let (go_on, told_to) = mpsc::channel::<()>();
        let (done, results) = mpsc::channel();
        let second = done.clone();
        errands
            .run(move || {
                told_to.recv().unwrap();
                done.send(1).unwrap();
            })
            .unwrap();
        errands.run(move || second.send(2).unwrap()).unwrap();
        drop(errands);
        assert!(results.try_recv().is_err(), "the first hangs");
        go_on.send(()).unwrap();
        assert_eq!(results.into_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
