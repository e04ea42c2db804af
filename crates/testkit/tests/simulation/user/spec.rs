//! Specs of whatever users declare, drawn from the seed.

use serde_json::{Value, json};

use super::User;

impl User {
    pub(super) fn template(&mut self, app: &str, job: bool) -> Value {
        self.count += 1;
        let cpu = self.pick(&["100m", "300m", "500m"]);
        let mut spec = json!({
            "containers": [{
                "name": "c", "image": format!("v{}", self.count), "resources": {"requests": {"cpu": cpu}},
            }],
            "terminationGracePeriodSeconds": self.pick(&[1, 5, 30]),
        });
        if job {
            spec["restartPolicy"] = self.pick(&["Never", "Never", "OnFailure"]).into();
        }
        if self.below(8) == 0 {
            spec["priorityClassName"] = "high".into();
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
            spec["replicas"] = self.below(6).into();
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
            }
            _ => {}
        }
        spec
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
