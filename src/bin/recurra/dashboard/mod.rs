//! A training run in the terminal: a thread of its own draws what the run tells and reads the keys, so that
//! a long step does not hold up either. It draws on stderr; results on stdout stay results.

// The training command takes these up.

mod draw;
mod state;

pub use draw::draw;
pub use state::{DashboardEvent, DashboardState, StepReport};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use recurra::{Error, Result};
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, Once, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From one look at the keys to the next, and the shortest time between two pictures.
const TICK: Duration = Duration::from_millis(50);
/// The longest time between two pictures.
const IDLE: Duration = Duration::from_secs(1);
/// What the shell sees of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// The longest wait for a picture in the making, before the terminal is given back all the same.
const LAST_PICTURE: Duration = Duration::from_millis(200);

/// Whether the terminal is ours.
static OURS: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn, so that nobody draws on a terminal that was given back.
static DRAWING: Mutex<()> = Mutex::new(());

/// The dashboard of a run, as long as the value lives.
pub struct Dashboard {
    events: Sender<DashboardEvent>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    closed: Arc<AtomicBool>,
}

impl Dashboard {
    /// Takes the terminal. `stop` becomes true when the user asks the run to stop: with q, or Ctrl-C, which
    /// ends the process at once when it is pressed again.
    ///
    /// # Errors
    /// stderr is no terminal, or the terminal can't be had.
    pub fn open(stop: Arc<AtomicBool>) -> Result<Self> {
        if !stderr().is_terminal() {
            return Err(Error::invalid("the dashboard needs a terminal, and stderr is none"));
        }
        let fail = |e| Error::io("the terminal", "open", e);
        restore_on_panic();
        take_terminal().map_err(fail)?;
        let terminal = Terminal::new(CrosstermBackend::new(stderr())).map_err(|e| {
            give_terminal_back();
            fail(e)
        })?;
        let closed = Arc::new(AtomicBool::new(false));
        let (events, receiver) = channel();
        let screen = Screen { terminal, state: DashboardState::default(), stop };
        let flag = closed.clone();
        let thread = std::thread::Builder::new()
            .name("dashboard".to_string())
            .spawn(move || screen.run(&receiver, &flag))
            .map_err(|e| {
                give_terminal_back();
                Error::io("the dashboard's thread", "start", e)
            })?;
        Ok(Dashboard { events, thread: Some(thread), closed })
    }

    /// Shows an event. A terminal that is gone is no reason to stop a run, so this does not fail.
    pub fn send(&self, event: DashboardEvent) {
        let _ = self.events.send(event);
    }

    /// Gives the terminal back.
    ///
    /// # Errors
    /// Drawing had failed; the run's events since then were not seen.
    pub fn close(mut self) -> Result<()> {
        self.end().map_err(|e| Error::io("the terminal", "write", e))
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.closed.store(true, Ordering::Release);
        let result = match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            // It panicked, and said so.
            Some(Err(_)) => Err(std::io::Error::other("the dashboard's thread panicked")),
            None => Ok(()),
        };
        give_terminal_back();
        result
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// What the thread owns.
struct Screen {
    terminal: Terminal<CrosstermBackend<std::io::Stderr>>,
    state: DashboardState,
    stop: Arc<AtomicBool>,
}

impl Screen {
    fn run(
        mut self,
        events: &Receiver<DashboardEvent>,
        closed: &AtomicBool,
    ) -> std::io::Result<()> {
        let mut drawn = None::<Instant>;
        loop {
            let mut changed = false;
            let ended = loop {
                match events.try_recv() {
                    Ok(event) => {
                        self.state.apply(&event);
                        changed = true;
                    }
                    Err(TryRecvError::Empty) => break closed.load(Ordering::Acquire),
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            if ended {
                return Ok(());
            }
            changed |= self.keys()?;
            if changed || drawn.is_none_or(|at| at.elapsed() > IDLE) {
                self.draw()?;
                drawn = Some(Instant::now());
            }
        }
    }

    /// Waits a tick for keys; whether there is something new to show.
    fn keys(&mut self) -> std::io::Result<bool> {
        let mut changed = false;
        let mut wait = TICK;
        while event::poll(wait)? {
            wait = Duration::ZERO;
            match event::read()? {
                Event::Key(key) => match asks(&key, self.state.stopping) {
                    Asks::Nothing => {}
                    Asks::Stop => {
                        self.stop.store(true, Ordering::Release);
                        self.state.stopping = true;
                        changed = true;
                    }
                    Asks::Leave => {
                        give_terminal_back();
                        std::process::exit(INTERRUPTED);
                    }
                },
                // The terminal asks for its size whenever it draws.
                Event::Resize(..) => changed = true,
                _ => {}
            }
        }
        Ok(changed)
    }

    fn draw(&mut self) -> std::io::Result<()> {
        let _drawing = DRAWING.lock().unwrap_or_else(|e| e.into_inner());
        if OURS.load(Ordering::Acquire) {
            self.terminal.draw(|frame| draw(frame, &self.state))?;
        }
        Ok(())
    }
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    Stop,
    Leave,
}

fn asks(key: &KeyEvent, stopping: bool) -> Asks {
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    match key.kind {
        KeyEventKind::Release => Asks::Nothing,
        // Held down is pressed once.
        KeyEventKind::Press if interrupt && stopping => Asks::Leave,
        _ if interrupt || matches!(key.code, KeyCode::Char('q' | 'Q')) => Asks::Stop,
        _ => Asks::Nothing,
    }
}

fn take_terminal() -> std::io::Result<()> {
    enable_raw_mode()?;
    if let Err(e) = execute!(stderr(), EnterAlternateScreen) {
        let _ = disable_raw_mode();
        return Err(e);
    }
    OURS.store(true, Ordering::Release);
    Ok(())
}

/// As it was before, if it is ours. Nothing can be done where that fails.
pub fn give_terminal_back() {
    if !OURS.swap(false, Ordering::AcqRel) {
        return;
    }
    // Who panics while drawing holds the lock itself.
    let start = Instant::now();
    let mut drawing = DRAWING.try_lock();
    while matches!(drawing, Err(TryLockError::WouldBlock)) && start.elapsed() < LAST_PICTURE {
        std::thread::sleep(Duration::from_millis(1));
        drawing = DRAWING.try_lock();
    }
    let _ = disable_raw_mode();
    let _ = execute!(stderr(), LeaveAlternateScreen, Show);
}

/// A panic's message is to be read, on a terminal as it was.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_terminal_back();
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_ask_to_stop() {
        let key = |code, modifiers| KeyEvent::new(code, modifiers);
        let q = key(KeyCode::Char('q'), KeyModifiers::NONE);
        let interrupt = key(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let c = key(KeyCode::Char('c'), KeyModifiers::NONE);
        assert_eq!(
            [asks(&q, false), asks(&interrupt, false), asks(&c, false)],
            [Asks::Stop, Asks::Stop, Asks::Nothing]
        );
        assert_eq!([asks(&q, true), asks(&interrupt, true)], [Asks::Stop, Asks::Leave]);
        let up = KeyEvent { kind: KeyEventKind::Release, ..interrupt };
        assert_eq!(asks(&up, true), Asks::Nothing);
    }

    #[test]
    fn what_is_no_terminal_is_refused() {
        if !stderr().is_terminal() {
            let error = Dashboard::open(Arc::default()).err().unwrap();
            assert!(error.to_string().contains("needs a terminal"));
        }
    }

    /// For the eyes: `cargo test --bin recurra dashboard::tests::look -- --ignored --nocapture`. With
    /// RECURRA_PANIC=1 it panics after a second.
    #[test]
    #[ignore = "takes the terminal and draws for half a minute"]
    fn look() {
        let stop = Arc::new(AtomicBool::new(false));
        let dashboard = Dashboard::open(stop.clone()).unwrap();
        let (title, device) =
            ("lstm 2x128 on tiny Shakespeare".to_string(), "llvmpipe".to_string());
        dashboard.send(DashboardEvent::Started {
            title,
            device,
            step: 0,
            steps: 600,
            steps_per_epoch: 90,
        });
        let start = Instant::now();
        for step in 1..=600u64 {
            std::thread::sleep(Duration::from_millis(50));
            let wave = (step as f32 * 1.7).sin() * (step as f32 * 0.37).cos();
            dashboard.send(DashboardEvent::Step(StepReport {
                step,
                loss: 1.4 + 2.8 * (-(step as f32) / 90.0).exp() + 0.1 * wave,
                rate: Some(0.004 * (step as f32 / 50.0).min(1.0)),
                gradient_norm: Some(0.8 + 0.4 * wave),
                symbols_per_second: Some(41_000.0 + 900.0 * f64::from(wave)),
                elapsed: start.elapsed().as_secs_f64(),
            }));
            if step % 60 == 0 {
                let loss = 1.5 + 2.7 * (-(step as f32) / 90.0).exp();
                dashboard.send(DashboardEvent::Validation { step, loss });
                dashboard.send(DashboardEvent::Message(format!("checkpoint of step {step}")));
                let sample = "KING HENRY:\nWhat, shall I see the world and all its company?";
                dashboard.send(DashboardEvent::Sample(sample.to_string()));
            }
            if stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(500));
                break;
            }
            assert!(step < 20 || std::env::var_os("RECURRA_PANIC").is_none(), "as was asked");
        }
        dashboard.close().unwrap();
        eprintln!("the terminal is back");
    }
}
