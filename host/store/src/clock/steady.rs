//! A clock that does not jump. What may be deleted only after a time is judged by it, so that a wrong clock of the machine
//! frees nothing.
//!
//! While a process runs, its time passes as fast as the kernel's monotonic clock, whatever the system's clock says: it never
//! goes back, and while it is behind the system's it gains an eighth, so that a clock that was set right is followed in
//! the end. At a start it takes over the system's time if that is not before the time that an earlier process has saved, and
//! not more than [`TRUSTED`] after it. After a longer time without a process, and with a clock that is wrong by years, it goes
//! on from the saved time. Then blobs are kept for longer than they would have to be, which is the safe side.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// How long may have passed while no process ran, for the system's clock to be believed.
pub const TRUSTED: Duration = Duration::from_secs(7 * 24 * 3600);
/// While it is behind, it gains one part in so many.
const GAIN: u32 = 8;

/// What the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The system's clock, which may jump.
    pub system: SystemTime,
    /// Time since some moment, which passes evenly, also while the machine sleeps.
    pub running: Duration,
}

impl Reading {
    /// Now.
    pub fn now() -> Self {
        let boot = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(boot.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(boot.tv_nsec).unwrap_or_default();
        Self { system: SystemTime::now(), running: Duration::new(seconds, nanoseconds) }
    }
}

/// The clock.
pub struct SteadyClock {
    read: Box<dyn Fn() -> Reading + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    time: SystemTime,
    running: Duration,
}

impl SteadyClock {
    /// Starts a clock. `saved` is its time when an earlier process had it last.
    pub fn start(saved: Option<SystemTime>) -> Self {
        Self::with(saved, Reading::now)
    }

    /// The same with other clocks under it.
    pub fn with(
        saved: Option<SystemTime>,
        read: impl Fn() -> Reading + Send + Sync + 'static,
    ) -> Self {
        let Reading { system, running } = read();
        let is_plausible = |saved: &SystemTime| {
            system.duration_since(*saved).is_ok_and(|passed| passed <= TRUSTED)
        };
        let time = saved.filter(|saved| !is_plausible(saved)).unwrap_or(system);
        Self { read: Box::new(read), state: Mutex::new(State { time, running }) }
    }

    /// The time. Save it from time to time.
    pub fn now(&self) -> SystemTime {
        self.look().0
    }

    /// How far it is behind the system's clock.
    pub fn behind(&self) -> Duration {
        let (time, system) = self.look();
        system.duration_since(time).unwrap_or_default()
    }

    /// The time of something that is stored now: the later one of its own and the system's.
    pub fn arrival(&self) -> SystemTime {
        let (time, system) = self.look();
        time.max(system)
    }

    fn look(&self) -> (SystemTime, SystemTime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Reading { system, running } = (self.read)();
        let passed = running.saturating_sub(state.running);
        let even = state.time.checked_add(passed).unwrap_or(state.time);
        let gained = even.checked_add(passed / GAIN).unwrap_or(even);
        state.time = system.clamp(even, gained);
        state.running = running;
        (state.time, system)
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SteadyClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Both clocks of a machine, in days.
    #[derive(Clone)]
    struct Machine(Arc<Mutex<(f64, f64)>>);

    impl Machine {
        fn at(system: f64) -> Self {
            Self(Arc::new(Mutex::new((system, 0.0))))
        }

        fn clock(&self, saved: Option<f64>) -> SteadyClock {
            let clocks = self.0.clone();
            SteadyClock::with(saved.map(day), move || {
                let (system, running) = *clocks.lock().unwrap();
                Reading { system: day(system), running: DAY.mul_f64(running) }
            })
        }

        fn passes(&self, days: f64) {
            let mut clocks = self.0.lock().unwrap();
            clocks.0 += days;
            clocks.1 += days;
        }

        fn jumps(&self, days: f64) {
            self.0.lock().unwrap().0 += days;
        }
    }

    fn day(days: f64) -> SystemTime {
        UNIX_EPOCH + DAY.mul_f64(days)
    }

    #[track_caller]
    fn shows(clock: &SteadyClock, days: f64) {
        let shown = clock.now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() / 86400.0;
        assert!((shown - days).abs() < 1e-6, "{shown}, not {days}");
    }

    #[test]
    fn it_is_the_systems_while_that_does_not_jump() {
        let machine = Machine::at(100.0);
        let clock = machine.clock(None);
        for passed in 0..50 {
            shows(&clock, 100.0 + f64::from(passed));
            assert_eq!((clock.behind(), clock.arrival()), (Duration::ZERO, clock.now()));
            machine.passes(1.0);
        }
    }

    #[test]
    fn a_jump_ahead_is_followed_slowly() {
        let machine = Machine::at(100.0);
        let clock = machine.clock(None);
        machine.jumps(365.0);
        shows(&clock, 100.0);
        machine.passes(8.0);
        shows(&clock, 109.0);
        assert_eq!(clock.arrival(), day(473.0));
        // It was a mistake, and is set right again.
        machine.jumps(-365.0);
        shows(&clock, 109.0);
        machine.passes(0.5);
        shows(&clock, 109.5);
        // Now the system's is the slower one, by a day.
        assert_eq!(clock.behind(), Duration::ZERO);
        machine.jumps(1.5);
        machine.passes(8.0);
        shows(&clock, 118.0);
        assert_eq!(clock.behind(), Duration::ZERO);
    }

    #[test]
    fn it_never_goes_back_and_neither_does_what_arrives() {
        let machine = Machine::at(100.0);
        let clock = machine.clock(None);
        machine.jumps(-50.0);
        shows(&clock, 100.0);
        assert_eq!(clock.arrival(), day(100.0));
        machine.passes(3.0);
        shows(&clock, 103.0);
        assert_eq!(clock.arrival(), day(103.0));
    }

    #[test]
    fn at_a_start_the_system_is_believed_within_a_week_of_what_was_saved() {
        for (saved, system, shown) in [
            (None, 5000.0, 5000.0),
            (Some(100.0), 100.0, 100.0),
            (Some(100.0), 107.0, 107.0),
            (Some(100.0), 107.1, 100.0),
            (Some(100.0), 20_000.0, 100.0),
            (Some(100.0), 99.0, 100.0),
            (Some(100.0), 0.0, 100.0),
        ] {
            shows(&Machine::at(system).clock(saved), shown);
        }
        let clock = Machine::at(120.0).clock(Some(100.0));
        assert_eq!(clock.behind(), DAY * 20);
    }

    #[test]
    fn the_machine_has_such_clocks() {
        let clock = SteadyClock::start(None);
        let begun = (SystemTime::now(), clock.now());
        std::thread::sleep(Duration::from_millis(20));
        let passed = clock.now().duration_since(begun.1).unwrap();
        assert!(passed >= Duration::from_millis(19), "{passed:?}");
        assert!(clock.behind() < Duration::from_secs(1), "{begun:?} {clock:?}");
    }
}
