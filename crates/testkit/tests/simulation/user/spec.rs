//! Specs of whatever users declare, drawn from the seed.

use serde_json::{Value, json};

use super::User;

impl User {
    pub(super) fn template(&mut self, app: &str, job: bool) -> Value {
        self.count += 1;
        let tight = self.world.chaos.profile.tight;
        // Daemons leave room for others on every node.
        let large = tight && !app.starts_with("da") && self.below(2) == 0;
        let cpu = match large {
            true => self.pick(&["700m", "1100m", "1500m"]),
            false => self.pick(&["100m", "300m", "500m"]),
        };
        let mut spec = json!({
            "containers": [{
                "name": "c", "image": format!("v{}", self.count), "resources": {"requests": {"cpu": cpu}},
            }],
            "terminationGracePeriodSeconds": self.pick(&[1, 5, 30]),
        });
        if job {
            spec["restartPolicy"] = self.pick(&["Never", "Never", "OnFailure"]).into();
        }
        if app.starts_with("da") {
            // Others may have taken the room on its node.
            spec["priorityClassName"] = "daemon".into();
        } else if self.below(if tight { 2 } else { 8 }) == 0 {
            spec["priorityClassName"] = self.pick(&["high", "middle", "patient"]).into();
        }
        if self.below(8) == 0 {
            spec["nodeSelector"] = json!({"disk": "fast"});
        }
        if self.below(8) == 0 {
            spec["tolerations"] = json!([{"operator": "Exists"}]);
        }
        json!({"metadata": {"labels": {"app": app}}, "spec": spec})
    }

    pub(super) fn workload(&mut self, kind: &str, name: &str) -> Value {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": name}},
            "template": self.template(name, false),
            "minReadySeconds": self.pick(&[0, 0, 0, 4]),
        });
        if kind != "DaemonSet" {
            spec["replicas"] = self.below(if self.world.chaos.profile.tight { 4 } else { 6 }).into();
        }
        match kind {
            "Deployment" => {
                spec["strategy"] = self.strategy();
                spec["revisionHistoryLimit"] = self.pick(&[0, 1, 3]).into();
                spec["progressDeadlineSeconds"] = self.pick(&[20, 600]).into();
            }
            "DaemonSet" => spec["updateStrategy"] = self.daemon_strategy(),
            "StatefulSet" => {
                spec["serviceName"] = name.into();
                spec["podManagementPolicy"] = self.pick(&["OrderedReady", "Parallel"]).into();
                spec["ordinals"] = json!({"start": self.pick(&[0, 0, 0, 2])});
                if self.world.chaos.profile.claims {
                    let class = self.pick(&["standard", "standard", ""]);
                    spec["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
                        "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                        "resources": {"requests": {"storage": "1Gi"}}}}]);
                    spec["persistentVolumeClaimRetentionPolicy"] = self.retention();
                }
            }
            _ => {}
        }
        spec
    }

    pub(super) fn retention(&mut self) -> Value {
        let mut policy = || self.pick(&["Retain", "Delete"]);
        json!({"whenDeleted": policy(), "whenScaled": policy()})
    }

    /// Volumes that were there before anybody asked.
    pub(super) async fn offer_volumes(&mut self) {
        for n in 0..8 {
            let volume = json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("disk-{n}")},
                "spec": {"capacity": {"storage": self.pick(&["1Gi", "2Gi"])}, "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/data"}},
            });
            self.create("v1", "persistentvolumes", volume).await;
        }
    }

    pub(super) fn strategy(&mut self) -> Value {
        if self.below(4) == 0 {
            return json!({"type": "Recreate", "rollingUpdate": null});
        }
        let share = [json!(0), json!(1), json!(2), json!("25%"), json!("60%")];
        let (surge, mut unavailable) = (self.pick(&share), self.pick(&share));
        if surge == 0 && unavailable == 0 {
            unavailable = json!(1);
        }
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
    }

    pub(super) fn daemon_strategy(&mut self) -> Value {
        let (surge, unavailable) = self.pick(&[(0, 1), (0, 2), (1, 0)]);
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
    }

    pub(super) fn job(&mut self, app: &str) -> Value {
        let mut spec = json!({
            "template": self.template(app, true),
            "completions": 1 + self.below(5),
            "parallelism": 1 + self.below(3),
            "backoffLimit": self.below(4),
        });
        if self.below(2) == 0 {
            spec["completionMode"] = "Indexed".into();
            if self.below(3) == 0 {
                spec["backoffLimitPerIndex"] = self.below(2).into();
                spec["backoffLimit"] = Value::Null;
                spec["template"]["spec"]["restartPolicy"] = "Never".into();
            }
        }
        if self.below(4) == 0 {
            spec["podReplacementPolicy"] = "Failed".into();
        }
        self.job_policies(&mut spec);
        if self.below(6) == 0 {
            spec["activeDeadlineSeconds"] = (5 + self.below(60)).into();
        }
        if self.below(4) == 0 {
            spec["ttlSecondsAfterFinished"] = self.below(30).into();
        }
        if self.below(6) == 0 {
            spec["suspend"] = true.into();
        }
        spec
    }

    /// What its failures mean, and when it has succeeded.
    fn job_policies(&mut self, spec: &mut Value) {
        let indexed = spec["completionMode"] == "Indexed";
        if self.below(3) == 0 && spec["template"]["spec"]["restartPolicy"] == "Never" {
            let mut rules = Vec::new();
            if self.below(2) == 0 {
                rules.push(json!({"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}));
            }
            let action = match spec["backoffLimitPerIndex"].is_null() {
                true => self.pick(&["FailJob", "Count", "Ignore"]),
                false => self.pick(&["FailIndex", "Count", "FailJob"]),
            };
            let operator = self.pick(&["In", "In", "NotIn"]);
            let mut codes = json!({"operator": operator, "values": [1]});
            if self.below(2) == 0 {
                codes["containerName"] = "c".into();
            }
            rules.push(json!({"action": action, "onExitCodes": codes}));
            spec["podFailurePolicy"] = json!({"rules": rules});
        }
        if indexed && self.below(3) == 0 {
            let rule = match self.below(3) {
                0 => json!({"succeededIndexes": "0"}),
                1 => json!({"succeededCount": 1}),
                _ => json!({"succeededIndexes": "0", "succeededCount": 1}),
            };
            spec["successPolicy"] = json!({"rules": [rule]});
        }
        if !spec["backoffLimitPerIndex"].is_null() && self.below(2) == 0 {
            spec["maxFailedIndexes"] = self.below(2).into();
        }
    }

    pub(super) fn cron_job(&mut self, app: &str) -> Value {
        let mut job = self.job(app);
        job["suspend"] = Value::Null;
        json!({
            "schedule": "* * * * *",
            "concurrencyPolicy": self.pick(&["Allow", "Forbid", "Replace"]),
            "successfulJobsHistoryLimit": self.below(3),
            "failedJobsHistoryLimit": self.below(2),
            "jobTemplate": {"spec": job},
        })
    }
}
