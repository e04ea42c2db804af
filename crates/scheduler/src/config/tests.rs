//! Whole configuration files: what they come to, and how mistakes are told.

use super::*;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(rest: &str) -> Result<SchedulerConfiguration, ConfigError> {
    SchedulerConfiguration::parse(&format!("{HEAD}{rest}"), &[])
}

fn at(rest: &str, point: Point) -> Vec<(&'static str, i64)> {
    let config = parse(rest).unwrap();
    let listers = Arc::new(Listers::holding());
    config.profiles[0].build(&listers, &[]).plugins_at(point)
}

fn names(rest: &str, point: Point) -> Vec<&'static str> {
    at(rest, point).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn an_empty_configuration_is_upstreams_default() {
    assert_eq!(parse("").unwrap(), SchedulerConfiguration::default());
    assert_eq!(
        at("", Point::Score),
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("VolumeBinding", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
    assert_eq!(names("", Point::PostFilter), ["DefaultPreemption"]);
    assert_eq!(names("", Point::Bind), ["DefaultBinder"]);
    assert_eq!(names("", Point::QueueSort), ["PrioritySort"]);
}

#[test]
fn all_settings_are_read() {
    let config = parse(
        "percentageOfNodesToScore: 30
podInitialBackoffSeconds: 2
podMaxBackoffSeconds: 20
parallelism: 8
leaderElection:
  leaderElect: false
  leaseDuration: 30s
  renewDeadline: 20s
  retryPeriod: 1s
  resourceName: mine
  resourceNamespace: here
clientConnection:
  kubeconfig: /etc/kubeconfig
  qps: 50
  burst: 100
profiles:
- schedulerName: a
  percentageOfNodesToScore: 70
- schedulerName: b
",
    )
    .unwrap();
    assert_eq!(config.percentage_of_nodes_to_score, 30);
    assert_eq!(config.backoff.initial, Duration::from_secs(2));
    assert_eq!(config.backoff.max, Duration::from_secs(20));
    assert_eq!(
        config.leader_election,
        LeaderElection {
            leader_elect: false,
            lease_duration: Duration::from_secs(30),
            renew_deadline: Duration::from_secs(20),
            retry_period: Duration::from_secs(1),
            resource_name: "mine".into(),
            resource_namespace: "here".into(),
        }
    );
    assert_eq!(config.client_connection.kubeconfig.as_deref(), Some("/etc/kubeconfig"));
    assert_eq!(config.client_connection.rate, Some((50.0, 100)));
    let profiles: Vec<_> = config
        .profiles
        .iter()
        .map(|p| (&*p.scheduler_name, p.percentage_of_nodes_to_score))
        .collect();
    assert_eq!(profiles, [("a", Some(70)), ("b", None)]);
}

#[test]
fn plugins_are_enabled_disabled_and_weighed() {
    let profile = |plugins: &str| format!("profiles:\n- plugins: {plugins}\n");
    assert_eq!(
        at(
            &profile("{score: {disabled: [{name: '*'}], enabled: [{name: ImageLocality, weight: 7}]}}"),
            Point::Score
        ),
        [("ImageLocality", 7)]
    );
    let without = profile("{multiPoint: {disabled: [{name: InterPodAffinity}]}}");
    for point in [Point::PreFilter, Point::Filter, Point::Score] {
        assert!(!names(&without, point).contains(&"InterPodAffinity"));
    }
    // Disabled for scoring only, it filters still.
    let only_filters = profile("{score: {disabled: [{name: InterPodAffinity}]}}");
    assert!(names(&only_filters, Point::Filter).contains(&"InterPodAffinity"));
    assert!(!names(&only_filters, Point::Score).contains(&"InterPodAffinity"));
    // A weight for all points; and one for scoring, which also puts it first.
    let heavy = profile("{multiPoint: {enabled: [{name: NodeAffinity, weight: 9}]}}");
    assert!(at(&heavy, Point::Score).contains(&("NodeAffinity", 9)));
    let first = profile("{score: {enabled: [{name: ImageLocality, weight: 5}]}}");
    assert_eq!(at(&first, Point::Score)[0], ("ImageLocality", 5));
    let little =
        profile("{multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}]}}");
    assert_eq!(
        (names(&little, Point::Filter).len(), names(&little, Point::Bind).len()),
        (0, 1)
    );
}

#[test]
fn arguments_reach_their_plugins() {
    let config = parse(
        "profiles:
- pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      ignoredResources: [example.com/x]
      scoringStrategy:
        type: RequestedToCapacityRatio
        resources: [{name: cpu, weight: 3}]
        requestedToCapacityRatio: {shape: [{utilization: 0, score: 0}, {utilization: 100, score: 10}]}
  - name: PodTopologySpread
    args:
      defaultingType: List
      defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: x, operator: Exists}]}]
  - {name: InterPodAffinity, args: {hardPodAffinityWeight: 5, ignorePreferredTermsOfExistingPods: true}}
  - {name: DefaultPreemption, args: {minCandidateNodesPercentage: 20, minCandidateNodesAbsolute: 50}}
  - {name: VolumeBinding, args: {bindTimeoutSeconds: 30}}
  - {name: NodeResourcesBalancedAllocation, args: {resources: [{name: example.com/gpu}]}}
",
    )
    .unwrap();
    let arguments = &config.profiles[0].arguments;
    assert_eq!(arguments.len(), 7);
    let Arguments::NodeResourcesFit {
        strategy,
        resources,
        ignored,
        ..
    } = &arguments[0]
    else {
        panic!("{arguments:?}");
    };
    assert_eq!(ignored, &["example.com/x"]);
    assert_eq!((resources[0].name.as_str(), resources[0].weight), ("cpu", 3));
    assert!(
        matches!(strategy, crate::plugins::resource_score::Strategy::RequestedToCapacityRatio(line)
        if line[1].score == 100)
    );
    assert_eq!(
        arguments[3],
        Arguments::InterPodAffinity {
            hard_weight: 5,
            ignore_preferred: true
        }
    );
    let built = config.profiles[0].build(&Arc::new(Listers::holding()), &[]);
    assert!(built.topology_keys().iter().any(|k| &**k == "zone"));
}

#[test]
fn mistakes_name_field_and_line() {
    for (rest, expected) in [
        (
            "percentageOfNodesToScore: 101",
            "line 3: percentageOfNodesToScore: must be from 0 to 100, not 101",
        ),
        (
            "podInitialBackoffSeconds: soon",
            "line 3: podInitialBackoffSeconds: must be a whole number, not text",
        ),
        (
            "podInitialBackoffSeconds: 30\npodMaxBackoffSeconds: 20",
            "line 4: podMaxBackoffSeconds: podMaxBackoffSeconds must not be less than podInitialBackoffSeconds",
        ),
        (
            "leaderElection:\n  leaseDuration: 15",
            "line 4: leaderElection.leaseDuration: must be text, not a whole number",
        ),
        (
            "leaderElection:\n  leaseDuration: 5s",
            "line 3: leaderElection: must have leaseDuration > renewDeadline > retryPeriod",
        ),
        (
            "profiles:\n- schedulerName: a\n- schedulerName: a",
            "line 5: profiles[1]: there is a profile named \"a\" already",
        ),
        (
            "profiles:\n- plugins:\n    score:\n      enabled:\n      - name: NodeAffinity\n      - name: Nonsense\n",
            "line 8: profiles[0].plugins.score.enabled[1].name: there is no plugin \"Nonsense\"",
        ),
        (
            "profiles:\n- plugins:\n    filter:\n      enabled:\n      - name: ImageLocality\n",
            "line 7: profiles[0].plugins.filter.enabled[0].name: ImageLocality does not take part in filter",
        ),
        (
            "profiles:\n- plugins:\n    bind:\n      disabled:\n      - name: DefaultBinder\n",
            "line 4: profiles[0]: needs a plugin at bind",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: InterPodAffinity\n    args:\n      hardPodAffinityWeight: 200\n",
            "line 7: profiles[0].pluginConfig[0].args.hardPodAffinityWeight: must be from 0 to 100, not 200",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: ImageLocality\n    args: {}\n",
            "line 5: profiles[0].pluginConfig[0].name: \"ImageLocality\" takes no arguments",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: NodeAffinity\n    args:\n      addedAfinity: {}\n",
            "line 7: profiles[0].pluginConfig[0].args.addedAfinity: is no field here; \
             there are apiVersion, kind, addedAffinity",
        ),
        (
            "extenders:\n- urlPrefix: x",
            "line 3: extenders: scheduler extenders are not supported; write a plugin instead",
        ),
    ] {
        assert_eq!(parse(rest).unwrap_err().to_string(), expected, "{rest}");
    }
    let wrong = SchedulerConfiguration::parse("apiVersion: v1\nkind: Pod\n", &[]).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "line 1: apiVersion: must be kubescheduler.config.k8s.io/v1, not \"v1\""
    );
    assert_eq!(parse("a: [1").unwrap_err().line, 3);
}
