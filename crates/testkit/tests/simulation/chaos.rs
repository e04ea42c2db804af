//! What goes wrong, and how often: drawn from the seed, until peace is made.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Longer than a lease is good for.
const LONGEST_CUT_OFF: Duration = Duration::from_secs(40);

/// How bad a seed is. Fractions are of writes, or of watch events.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Refused, and not done.
    pub refused: f64,
    /// Done, but the answer is lost.
    pub lost: f64,
    /// The component ends before the write, or after it and before its answer.
    pub crashes: f64,
    /// How long a request takes at most.
    pub latency: Duration,
    /// How long an event of a watch takes at most.
    pub lag: Duration,
    /// Watches that end; half of them so that a new list is needed.
    pub cut: f64,
    /// Nodes that die for a while, containers that crash.
    pub outages: bool,
    pub failing_pods: bool,
    /// How long a component that crashed is away at most.
    pub away: Duration,
    /// Controller managers; when there are several, the one that holds the lease works.
    pub managers: u32,
    /// Components are cut off from the server for a while: they live on and hear nothing.
    pub cut_offs: bool,
    /// Server and all components end together, and start again from what the store has.
    pub restarts: bool,
    /// Nodes are small and pods are large, of several priorities.
    pub tight: bool,
    /// StatefulSets keep data.
    pub claims: bool,
    /// There are custom resources: owners and dependents, and the metrics of an autoscaler.
    pub custom: bool,
}

impl Profile {
    fn draw(random: &mut StdRng) -> Self {
        let mut of = |choices: &[f64]| choices[random.random_range(0..choices.len())];
        let tight = of(&[0.0, 0.0, 1.0]) > 0.0;
        Self {
            refused: of(&[0.0, 0.0, 0.02, 0.1]),
            lost: of(&[0.0, 0.0, 0.01, 0.05]),
            crashes: of(&[0.0, 0.0, 0.003, 0.02]),
            latency: Duration::from_millis(of(&[0.0, 2.0, 20.0, 500.0]) as u64),
            lag: Duration::from_millis(of(&[0.0, 2.0, 100.0, 3000.0]) as u64),
            cut: of(&[0.0, 0.0, 0.003, 0.02]),
            outages: of(&[0.0, 0.0, 1.0]) > 0.0,
            failing_pods: of(&[0.0, 1.0]) > 0.0,
            away: Duration::from_millis(of(&[10.0, 2000.0, 15_000.0]) as u64),
            managers: of(&[1.0, 1.0, 2.0]) as u32,
            cut_offs: of(&[0.0, 0.0, 1.0]) > 0.0,
            restarts: of(&[0.0, 0.0, 1.0]) > 0.0,
            tight,
            // What is kept on one node cannot go to another that has room.
            claims: !tight && of(&[0.0, 1.0]) > 0.0,
            custom: of(&[0.0, 0.0, 1.0]) > 0.0,
        }
    }

    /// How long what a component believes may be out of date at most, beside its retries.
    pub fn staleness(&self) -> Duration {
        let reconnects = if self.cut > 0.0 { 5 } else { 0 };
        let silence = if self.cut_offs { LONGEST_CUT_OFF } else { Duration::ZERO };
        Duration::from_secs(2 + reconnects) + self.latency * 4 + self.lag * 4 + silence
    }
}

/// What becomes of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Refused,
    Lost,
    CrashBefore,
    CrashAfter,
}

/// What becomes of one event of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    After(Duration),
    Ended,
    Expired,
}

/// Draws what happens. One for a whole story.
pub struct Chaos {
    pub profile: Profile,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    peace: bool,
}

impl Chaos {
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x6368_616f_7300);
        Self {
            profile: Profile::draw(&mut random),
            state: Mutex::new(State { random, peace: false }),
        }
    }

    /// Nothing goes wrong any more.
    pub fn make_peace(&self) {
        self.state.lock().peace = true;
    }

    pub fn is_peace(&self) -> bool {
        self.state.lock().peace
    }

    fn up_to(&self, most: Duration) -> Duration {
        let mut state = self.state.lock();
        if most.is_zero() || state.peace {
            return Duration::ZERO;
        }
        // Mostly short, sometimes as long as it can be.
        let share: f64 = state.random.random();
        most.mul_f64(share * share * share)
    }

    /// Never nothing: who answers what others do at once would otherwise let no time pass, and no watch catch up.
    pub fn latency(&self) -> Duration {
        self.up_to(self.profile.latency).max(Duration::from_millis(1))
    }

    pub fn absence(&self) -> Duration {
        self.up_to(self.profile.away)
    }

    pub fn cut_off(&self) -> Duration {
        self.up_to(LONGEST_CUT_OFF)
    }

    pub fn of_write(&self) -> Fate {
        let mut state = self.state.lock();
        if state.peace {
            return Fate::Done;
        }
        let (profile, drawn) = (&self.profile, state.random.random::<f64>());
        let fates = [
            (profile.refused, Fate::Refused),
            (profile.lost, Fate::Lost),
            (profile.crashes / 2.0, Fate::CrashBefore),
            (profile.crashes / 2.0, Fate::CrashAfter),
        ];
        let mut sum = 0.0;
        for (fraction, fate) in fates {
            sum += fraction;
            if drawn < sum {
                return fate;
            }
        }
        Fate::Done
    }

    pub fn of_event(&self) -> Passage {
        let lag = self.up_to(self.profile.lag);
        let mut state = self.state.lock();
        if state.peace || state.random.random::<f64>() >= self.profile.cut {
            return Passage::After(lag);
        }
        match state.random.random::<bool>() {
            true => Passage::Ended,
            false => Passage::Expired,
        }
    }

    /// One of several answers to a write that was refused.
    pub fn refusal(&self) -> u8 {
        self.state.lock().random.random_range(0..3)
    }
}
