//! One seed from its beginning to its end: trouble, then peace, then rest, then quiet.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::rest;
use crate::user::User;
use crate::world::{self, World};

/// How long after the last fault all must have come to rest, in the story's time. The longest back-offs are those of
/// containers (five minutes), of a Job's pods (ten) and of failed daemons (fifteen).
const PATIENCE: Duration = Duration::from_secs(45 * 60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_secs(10);
/// How long the quiet is listened to: longer than anything that is done every few minutes.
const LISTENED: Duration = Duration::from_secs(6 * 60);

/// What became of a story.
pub struct Ending {
    pub faults: Vec<String>,
    pub hash: u64,
    pub commits: u64,
    pub lines: Vec<String>,
    pub profile: String,
}

/// Tells the story of a seed; `in_full` with what each write was.
pub fn tell(seed: u64, in_full: bool) -> Ending {
    world::run(async {
        let world = World::begin(seed, in_full).await;
        let unrest = live(&world, seed).await;
        let mut faults = world.history.faults();
        faults.extend(unrest);
        Ending {
            faults,
            hash: world.history.hash(),
            commits: world.history.commits(),
            lines: world.history.lines(),
            profile: format!("{:?}", world.chaos.profile),
        }
    })
}

async fn live(world: &World, seed: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x7374_6f72_7900);
    let mut user = User::new(world.clone(), random.random());
    let acts = random.random_range(10..40);
    user.prepare().await;
    for _ in 0..acts {
        // Often in one breath, sometimes after a long pause.
        let pause: f64 = random.random();
        world.clock.sleep(Duration::from_secs_f64(pause.powi(4) * 25.0)).await;
        user.act().await;
        if world.chaos.profile.cut_offs && random.random_range(0..8) == 0 {
            world.cut_off(random.random_range(0..4));
        }
        if world.chaos.profile.restarts && random.random_range(0..20) == 0 {
            world.restart().await;
        }
        if !world.history.faults().is_empty() {
            return Vec::new();
        }
    }
    world.clock.sleep(Duration::from_secs(random.random_range(0..30))).await;
    world.make_peace();
    user.settle().await;

    let deadline = world.clock.instant() + PATIENCE;
    loop {
        world.clock.sleep(LOOK).await;
        user.tend().await;
        let unrest = world.history.read(|model, _| rest::unrest(model, world.clock.now()));
        if !world.history.faults().is_empty() {
            return Vec::new();
        }
        if unrest.is_empty() {
            break;
        }
        if world.clock.instant() >= deadline {
            return unrest.into_iter().map(|u| format!("no rest: {u}")).collect();
        }
    }
    world.history.note("at rest");
    // What was told of the last thing done may still be on its way.
    world.clock.sleep(LOOK).await;
    let mut faults = world.history.read(|model, rules| rules.judge_rest(model));
    let heard = world.history.lines().len();
    world.clock.sleep(LISTENED).await;
    let lines = world.history.lines();
    let noise = lines[heard..].iter().filter(|line| rest::is_noise(line));
    faults.extend(noise.take(20).map(|line| format!("no quiet: {line}")));
    faults
}
