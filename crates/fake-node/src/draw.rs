//! What chance decides, decided by the seed: the same seed, pod and question have the same answer on every machine and in
//! every version. Pure.

/// The chances of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw(u64);

impl Draw {
    /// The pod is the `ordinal`-th of its group: those of one namespace and generated name have names that chance gave
    /// them, so that the name itself would not do.
    pub(crate) fn of_pod(seed: u64, group: u64, ordinal: u32) -> Self {
        Self(mix(mix(seed ^ 0x636f_7261_636c_6521) ^ group) ^ u64::from(ordinal).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn of_name(seed: u64, name: &str) -> Self {
        Self::of_pod(seed, hash(&[name]), 0)
    }

    /// The chances of one of the pod's containers.
    pub(crate) fn of_container(self, name: &str) -> Self {
        Self(mix(self.0 ^ hash(&[name])))
    }

    /// A number from 0 (included) to 1 (excluded): the answer to `question`, asked for the `attempt`-th time.
    pub(crate) fn fraction(self, question: &str, attempt: u32) -> f64 {
        let bits = mix(self.0 ^ mix(hash(&[question]) ^ u64::from(attempt)));
        // The upper 53 bits, as many as a float holds.
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something happens that happens in `fraction` of all cases.
    pub(crate) fn happens(self, fraction: f64, question: &str, attempt: u32) -> bool {
        fraction > 0.0 && self.fraction(question, attempt) < fraction
    }
}

/// FNV-1a over the parts, with an end mark behind each.
pub(crate) fn hash(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}

/// The finalizer of splitmix64: every bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_depend_on_seed_pod_question_and_attempt_and_on_nothing_else() {
        let draw = |seed, ordinal| Draw::of_pod(seed, hash(&["default", "web-"]), ordinal);
        assert_eq!(draw(1, 2).fraction("crash", 3), draw(1, 2).fraction("crash", 3));
        for other in [
            draw(2, 2).fraction("crash", 3),
            draw(1, 3).fraction("crash", 3),
            draw(1, 2).fraction("run", 3),
            draw(1, 2).fraction("crash", 4),
        ] {
            assert_ne!(draw(1, 2).fraction("crash", 3), other);
        }
        // Written down once: a change of this number changes what every seed means.
        assert_eq!(format!("{:.6}", draw(1, 2).fraction("crash", 3)), PINNED);
    }

    const PINNED: &str = "0.527839";

    #[test]
    fn a_fraction_of_cases_is_about_that_fraction() {
        let hit = |n: &u32| Draw::of_pod(7, 9, *n).happens(0.1, "crash", 0);
        let hits = (0..10_000).filter(hit).count();
        assert!((900..1100).contains(&hits), "{hits}");
        assert!(!Draw::of_pod(7, 9, 0).happens(0.0, "crash", 0));
        assert!((0..1000).all(|n| Draw::of_pod(7, 9, n).happens(1.0, "crash", 0)));
    }
}
