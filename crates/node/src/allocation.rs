//! What of the node has been given to which pod: whether one more fits, and whether a pod may grow. Pure but for its lock,
//! and for telling those who waited that they wait no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use crate::eviction::rank::priority;
use crate::pod::admission::{self, HostPort};
use crate::pod::amount::{Amounts, milli_of, whole_of};
use crate::pod::resources::{self, Qos};

/// What a pod takes of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) milli_cpu: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
}

impl Share {
    pub(crate) fn of(pod: &Pod) -> Self {
        Self {
            milli_cpu: resources::requested_milli_cpu(pod),
            memory: resources::requested(pod, "memory"),
            storage: resources::requested(pod, "ephemeral-storage"),
        }
    }

    /// By upstream's names and in the order in which they are checked.
    fn parts(self) -> [(&'static str, i64); 3] {
        [
            ("cpu", self.milli_cpu),
            ("memory", self.memory),
            ("ephemeral-storage", self.storage),
        ]
    }

    fn exceeds(self, other: Self) -> bool {
        self.milli_cpu > other.milli_cpu || self.memory > other.memory
    }
}

/// What the node can give.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Capacity {
    pub(crate) share: Share,
    pub(crate) pods: usize,
}

impl Capacity {
    pub(crate) fn of(allocatable: &Amounts) -> Self {
        let whole = |name| whole_of(Some(allocatable), name).unwrap_or(0);
        Self {
            share: Share {
                milli_cpu: milli_of(Some(allocatable), "cpu").unwrap_or(0),
                memory: whole("memory"),
                storage: whole("ephemeral-storage"),
            },
            pods: usize::try_from(whole("pods")).unwrap_or(0),
        }
    }
}

/// A reason and a message, as statuses and events have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A pod that wants to grow, and what decides who does so first.
struct Waiting {
    wanted: Share,
    rank: (i32, bool, Timestamp),
    wake: Arc<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Table {
    held: BTreeMap<String, Share>,
    ports: BTreeMap<String, Vec<HostPort>>,
    waiting: BTreeMap<String, Waiting>,
}

/// The node's allocations.
#[derive(Default)]
pub(crate) struct Allocations {
    capacity: Capacity,
    table: Mutex<Table>,
}

impl Table {
    fn used(&self, without: &str) -> Share {
        let others = self.held.iter().filter(|(uid, _)| *uid != without);
        others.fold(Share::default(), |sum, (_, share)| Share {
            milli_cpu: sum.milli_cpu.saturating_add(share.milli_cpu),
            memory: sum.memory.saturating_add(share.memory),
            storage: sum.storage.saturating_add(share.storage),
        })
    }
}

/// The first resource of which there is too little. What nobody asks for is never short.
fn lacking(wanted: Share, used: Share, capacity: Share) -> Option<(&'static str, i64, i64, i64)> {
    let all = wanted.parts().into_iter().zip(used.parts()).zip(capacity.parts());
    all.filter(|(((_, wanted), (_, used)), (_, capacity))| *wanted > 0 && used.saturating_add(*wanted) > *capacity)
        .map(|(((name, wanted), (_, used)), (_, capacity))| (name, wanted, used, capacity))
        .next()
}

impl Allocations {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            table: Mutex::default(),
        }
    }

    /// Gives a new pod what it asks for; or says what is short, in upstream's words.
    pub(crate) fn admit(&self, uid: &str, wanted: Share) -> Result<(), Refusal> {
        let mut table = self.table.lock();
        let refuse = |resource: &str, (wanted, used, capacity): (i64, i64, i64)| Refusal {
            reason: format!("OutOf{resource}"),
            message: format!(
                "Node didn't have enough resource: {resource}, requested: {wanted}, used: {used}, capacity: {capacity}"
            ),
        };
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let others = table.held.keys().filter(|held| *held != uid).count();
        if others >= self.capacity.pods {
            return Err(refuse("pods", (1, number(others), number(self.capacity.pods))));
        }
        match lacking(wanted, table.used(uid), self.capacity.share) {
            Some((name, wanted, used, capacity)) => Err(refuse(name, (wanted, used, capacity))),
            None => {
                table.held.insert(uid.to_owned(), wanted);
                Ok(())
            }
        }
    }

    /// Gives a pod the host's ports that it asks for, unless another has one of them.
    pub(crate) fn take_ports(&self, uid: &str, wanted: Vec<HostPort>) -> Result<(), Refusal> {
        let ports = &mut self.table.lock().ports;
        let mut others = ports.iter().filter(|(of, _)| *of != uid).flat_map(|(_, taken)| taken);
        if others.any(|taken| wanted.iter().any(|port| port.clashes(taken))) {
            return Err(admission::port_taken());
        }
        ports.insert(uid.to_owned(), wanted);
        Ok(())
    }

    /// A pod that runs already has the ports that it has.
    pub(crate) fn hold_ports(&self, uid: &str, ports: Vec<HostPort>) {
        self.table.lock().ports.insert(uid.to_owned(), ports);
    }

    /// A pod that runs already has what it has, and wants no more.
    pub(crate) fn hold(&self, uid: &str, share: Share) {
        let mut table = self.table.lock();
        table.waiting.remove(uid);
        table.held.insert(uid.to_owned(), share);
    }

    /// The pod has ended, or it waits no more: what it had is free for those who wait.
    pub(crate) fn release(&self, uid: &str) {
        let woken = {
            let mut table = self.table.lock();
            table.waiting.remove(uid);
            table.ports.remove(uid);
            if table.held.remove(uid).is_none() {
                return;
            }
            self.grant(&mut table)
        };
        woken.iter().for_each(|wake| wake());
    }

    /// Lets the pod have `wanted` instead of what it has; or puts it among those who wait, if it could ever be.
    pub(crate) fn resize(
        &self,
        pod: &Pod,
        uid: &str,
        wanted: Share,
        now: Timestamp,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<(), Refusal> {
        let (result, woken) = {
            let mut table = self.table.lock();
            let result = self.try_resize(&mut table, pod, uid, wanted, now, wake);
            // Who shrinks makes room.
            let woken = if result.is_ok() {
                self.grant(&mut table)
            } else {
                Vec::new()
            };
            (result, woken)
        };
        woken.iter().for_each(|wake| wake());
        result
    }

    fn try_resize(
        &self,
        table: &mut Table,
        pod: &Pod,
        uid: &str,
        wanted: Share,
        now: Timestamp,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> Result<(), Refusal> {
        let waited_since = table.waiting.remove(uid).map(|w| w.rank.2);
        if let Some((name, wanted, _, capacity)) = lacking(wanted, Share::default(), self.capacity.share) {
            return Err(Refusal {
                reason: "Infeasible".into(),
                message: format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}"),
            });
        }
        let held = table.held.get(uid).copied().unwrap_or_default();
        match lacking(wanted, table.used(uid), self.capacity.share).filter(|_| wanted.exceeds(held)) {
            None => {
                table.held.insert(uid.to_owned(), wanted);
                Ok(())
            }
            Some((name, amount, used, capacity)) => {
                let waiting = Waiting {
                    wanted,
                    rank: (
                        -priority(pod),
                        Qos::of(pod) != Qos::Guaranteed,
                        waited_since.unwrap_or(now),
                    ),
                    wake,
                };
                table.waiting.insert(uid.to_owned(), waiting);
                Err(Refusal {
                    reason: "Deferred".into(),
                    message: format!(
                        "Node didn't have enough resource: {name}, requested: {amount}, used: {used}, capacity: {capacity}"
                    ),
                })
            }
        }
    }

    /// Gives those who wait what fits now, the most important first; they still have to be told.
    fn grant(&self, table: &mut Table) -> Vec<Arc<dyn Fn() + Send + Sync>> {
        let mut order: Vec<_> = table.waiting.iter().map(|(uid, w)| (w.rank, uid.clone())).collect();
        order.sort();
        let mut woken = Vec::new();
        for (_, uid) in order {
            let Some(waiting) = table.waiting.get(&uid) else {
                continue;
            };
            let wanted = waiting.wanted;
            if lacking(wanted, table.used(&uid), self.capacity.share).is_some() {
                continue;
            }
            table.held.insert(uid.clone(), wanted);
            woken.extend(table.waiting.remove(&uid).map(|w| w.wake));
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn share(milli_cpu: i64, memory: i64) -> Share {
        Share {
            milli_cpu,
            memory,
            storage: 0,
        }
    }

    fn node(milli_cpu: i64, memory: i64, pods: usize) -> Allocations {
        Allocations::new(Capacity {
            share: share(milli_cpu, memory),
            pods,
        })
    }

    fn pod(priority: i32) -> Pod {
        serde_json::from_value(json!({"spec": {"priority": priority, "containers": []}})).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_pod_that_does_not_fit_is_refused_in_upstream_s_words() {
        let node = node(2000, 100, 3);
        node.admit("a", share(1500, 60)).unwrap();
        let refusal = node.admit("b", share(600, 1)).unwrap_err();
        assert_eq!(refusal.reason, "OutOfcpu");
        assert_eq!(
            refusal.message,
            "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        assert_eq!(node.admit("b", share(500, 41)).unwrap_err().reason, "OutOfmemory");
        node.admit("b", share(0, 40)).unwrap();
        node.admit("c", share(0, 0)).unwrap();
        assert_eq!(node.admit("d", share(0, 0)).unwrap_err().reason, "OutOfpods");
        node.release("a");
        node.admit("d", share(2000, 60)).unwrap();
    }

    #[test]
    fn a_pod_grows_waits_or_never_can() {
        let node = node(2000, 100, 9);
        node.admit("a", share(500, 50)).unwrap();
        node.admit("b", share(1000, 50)).unwrap();
        let quiet: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
        let resize = |uid: &str, wanted| node.resize(&pod(0), uid, wanted, now(), quiet.clone());
        resize("a", share(1000, 50)).unwrap();
        let deferred = resize("a", share(1001, 50)).unwrap_err();
        assert_eq!(
            (deferred.reason.as_str(), deferred.message.as_str()),
            (
                "Deferred",
                "Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000"
            )
        );
        let infeasible = resize("a", share(2001, 50)).unwrap_err();
        assert_eq!(
            (infeasible.reason.as_str(), infeasible.message.as_str()),
            (
                "Infeasible",
                "Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000"
            )
        );
        resize("a", share(100, 10)).unwrap();
        node.admit("c", share(900, 40)).unwrap();
    }

    #[test]
    fn room_goes_to_the_most_important_of_those_who_wait_and_they_are_told() {
        let node = node(1000, 100, 9);
        for uid in ["low", "high", "big"] {
            node.admit(uid, share(100, 10)).unwrap();
        }
        node.admit("leaver", share(700, 70)).unwrap();
        let told: Arc<Mutex<Vec<&'static str>>> = Arc::default();
        for (uid, priority, wanted) in [("low", 0, 500), ("high", 1000, 600), ("big", 9, 200)] {
            let told = told.clone();
            let wake = Arc::new(move || told.lock().push(uid));
            node.resize(&pod(priority), uid, share(wanted, 10), now(), wake)
                .unwrap_err();
        }
        let quiet: Arc<dyn Fn() + Send + Sync> = Arc::new(|| {});
        node.admit("fickle", share(0, 0)).unwrap();
        node.resize(&pod(9), "fickle", share(1000, 0), now(), quiet)
            .unwrap_err();
        node.hold("fickle", share(0, 0));
        node.release("leaver");
        assert_eq!(*told.lock(), ["high", "big"], "who wants it no more gets nothing");
        assert_eq!(node.admit("new", share(101, 1)).unwrap_err().reason, "OutOfcpu");
    }
}
