//! What is remembered of each pod, in a few dozen bytes: when it was accepted and told to stop, its address, and its number
//! within its group. Pure.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Pod;

use crate::draw::hash;
use crate::plan::deletion;
use crate::status::millis;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) accepted: i64,
    pub(crate) stopped: Option<i64>,
    pub(crate) ordinal: u32,
    pub(crate) address: Option<Ipv4Addr>,
}

/// Records by uid, and how many pods each group has had.
#[derive(Default)]
pub(crate) struct Records {
    pods: HashMap<u128, Record>,
    groups: HashMap<u64, Group>,
}

#[derive(Clone, Copy, Default)]
struct Group {
    next: u32,
    live: u32,
}

/// So many groups are remembered though none of their pods is left.
const MOST_GROUPS: usize = 1 << 16;
/// A deletion is seen this long after it was asked for at most, unless nobody looked.
const LAG: i64 = 2000;

/// Pods that are made alike, by one owner, are a group: their names are random, their number in the group is not.
pub(crate) fn group(pod: &Pod) -> u64 {
    let meta = &pod.metadata;
    let name = meta.generate_name.as_ref().or(meta.name.as_ref());
    hash(&[
        meta.namespace.as_deref().unwrap_or_default(),
        name.map(String::as_str).unwrap_or_default(),
    ])
}

/// A uid in 16 bytes; one that is no UUID is hashed.
fn key(pod: &Pod) -> u128 {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let digits: String = uid.chars().filter(|c| *c != '-').collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(number) if digits.len() == 32 => number,
        _ => (u128::from(hash(&[uid])) << 64) | u128::from(hash(&["", uid])),
    }
}

impl Records {
    /// The pod's record, made if there is none: from what its status says when it was accepted before this process began.
    pub(crate) fn accept(&mut self, pod: &Pod, now: i64) -> &mut Record {
        let started = pod
            .status
            .as_ref()
            .and_then(|s| s.start_time.as_ref())
            .map(|t| millis(t.0));
        let groups = &mut self.groups;
        let record = self.pods.entry(key(pod)).or_insert_with(|| {
            let group = groups.entry(group(pod)).or_default();
            let ordinal = group.next;
            group.next = group.next.wrapping_add(1);
            group.live += 1;
            Record {
                accepted: started.unwrap_or(now),
                stopped: None,
                ordinal,
                address: None,
            }
        });
        if let (None, Some((asked, _))) = (record.stopped, deletion(pod)) {
            // Whole seconds are told; the moment it was seen is nearer, unless it was seen late.
            record.stopped = Some(if now - asked < LAG { now } else { asked });
        }
        record
    }

    pub(crate) fn get_mut(&mut self, pod: &Pod) -> Option<&mut Record> {
        self.pods.get_mut(&key(pod))
    }

    /// The pod is gone; its record.
    pub(crate) fn remove(&mut self, pod: &Pod) -> Option<Record> {
        let record = self.pods.remove(&key(pod))?;
        if let Some(group) = self.groups.get_mut(&group(pod)) {
            group.live = group.live.saturating_sub(1);
        }
        if self.groups.len() > MOST_GROUPS {
            self.groups.retain(|_, group| group.live > 0);
        }
        Some(record)
    }

    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(uid: &str, name: &str, more: serde_json::Value) -> Pod {
        let mut value = json!({"metadata": {"namespace": "a", "name": name, "generateName": "web-", "uid": uid}});
        value["metadata"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn pods_of_a_group_are_numbered_and_keep_their_number() {
        let mut records = Records::default();
        let (x, y, z) = (
            pod("8d5e6f00-0000-4000-8000-000000000001", "web-x", json!({})),
            pod("8d5e6f00-0000-4000-8000-000000000002", "web-y", json!({})),
            pod("not-a-uuid", "web-z", json!({})),
        );
        assert_eq!(records.accept(&x, 5).ordinal, 0);
        assert_eq!(records.accept(&y, 6).ordinal, 1);
        assert_eq!(records.accept(&x, 7).accepted, 5);
        records.remove(&x);
        records.remove(&y);
        assert_eq!(
            records.accept(&z, 8).ordinal,
            2,
            "a pod that replaces another has its own fate"
        );
        assert_eq!(records.len(), 1);
    }

    #[test]
    fn a_deletion_counts_from_when_it_was_seen_or_asked_for_if_nobody_looked() {
        let deleted = json!({"deletionTimestamp": "1970-01-01T00:01:40Z", "deletionGracePeriodSeconds": 30});
        let mut records = Records::default();
        assert_eq!(
            records.accept(&pod("1", "a", deleted.clone()), 70_500).stopped,
            Some(70_500)
        );
        assert_eq!(records.accept(&pod("2", "b", deleted), 90_000).stopped, Some(70_000));
    }

    #[test]
    fn a_record_is_a_few_dozen_bytes() {
        assert!(size_of::<(u128, Record)>() <= 64, "{}", size_of::<(u128, Record)>());
    }
}
