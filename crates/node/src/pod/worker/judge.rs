//! Probes of the pod's containers: which run, and what their verdicts lead to.

use coracle_runtime::ContainerState;

use super::Worker;
use crate::pod::handler::Target;
use crate::pod::plan::{Cause, Condemned, survives_condemnation};
use crate::pod::probe::{self, ProbeKind, Verdict};

impl Worker {
    /// Starts the probes that should run and do not.
    pub(super) fn probe(&mut self) {
        let mut wanted = Vec::new();
        for instance in self.instances.values().filter(|i| i.state == ContainerState::Running) {
            let starting = self.busy.starting.as_deref() == Some(&instance.name);
            let Some(container) = self.spec_of(&instance.name).filter(|_| !starting) else {
                continue;
            };
            let memory = self.memory.get(&instance.name);
            let started = memory.and_then(|m| m.started.as_ref()) == Some(&instance.id);
            let condemned = memory
                .and_then(|m| m.condemned.as_ref())
                .is_some_and(|c| c.id == instance.id);
            for (kind, probe, due) in [
                (ProbeKind::Startup, &container.startup_probe, !started && !condemned),
                (ProbeKind::Readiness, &container.readiness_probe, started),
                (ProbeKind::Liveness, &container.liveness_probe, started && !condemned),
            ] {
                let key = (instance.id.clone(), kind);
                if let Some(probe) = probe.as_ref().filter(|_| due && !self.probes.contains_key(&key)) {
                    // The delays of these do not begin until the startup probe has succeeded, which it has just now.
                    let since = match container.startup_probe.is_some() && kind != ProbeKind::Startup {
                        true => self.cx.clock.now(),
                        false => instance.started_at.unwrap_or(instance.created_at),
                    };
                    wanted.push((key, container.clone(), probe.clone(), since));
                }
            }
        }
        for ((id, kind), container, probe, since) in wanted {
            let target = Target {
                runtime: self.cx.runtime.clone(),
                clock: self.cx.clock,
                id: id.clone(),
                container,
                pod_ip: self.pod_ips.first().cloned().unwrap_or_default(),
            };
            let run = probe::run(
                self.cx.clone(),
                self.pod.clone(),
                target,
                kind,
                probe,
                since,
                self.verdicts.0.clone(),
            );
            let task = self.prober.spawn(run);
            self.probes.insert((id, kind), task);
        }
    }

    /// Acts on a probe's verdict.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        let Verdict {
            container,
            id,
            kind,
            healthy,
        } = verdict;
        let comes_back = self
            .spec_of(&container)
            .is_some_and(|c| survives_condemnation(&self.pod, &c));
        let memory = self.memory.entry(container.clone()).or_default();
        match (kind, healthy) {
            (ProbeKind::Startup, true) => memory.started = Some(id),
            (ProbeKind::Readiness, true) => memory.ready = Some(id),
            (ProbeKind::Readiness, false) => memory.ready = None,
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                memory.condemned = Some(Condemned {
                    id,
                    by: if kind == ProbeKind::Startup {
                        Cause::StartupProbe
                    } else {
                        Cause::LivenessProbe
                    },
                    message: format!(
                        "Container {container} failed {} probe{}",
                        kind.name().to_lowercase(),
                        if comes_back { ", will be restarted" } else { "" }
                    ),
                    comes_back,
                });
            }
        }
    }

    pub(super) fn stop_probes(&mut self, all: bool) {
        self.probes.retain(|(_, kind), probe| {
            let stays = !all && *kind == ProbeKind::Readiness;
            if !stays {
                probe.abort();
            }
            stays
        });
    }
}
