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
    // Without a weight it is 1, also of one whose default is more.
    let plain = profile("{score: {enabled: [{name: TaintToleration}]}}");
    assert_eq!(at(&plain, Point::Score)[0], ("TaintToleration", 1));
    let plain = profile("{multiPoint: {enabled: [{name: PodTopologySpread}]}}");
    assert!(at(&plain, Point::Score).contains(&("PodTopologySpread", 1)));
    // What upstream has besides may be disabled.
    let without = profile("{multiPoint: {disabled: [{name: DynamicResources}]}}");
    assert_eq!(at(&without, Point::Score), at("", Point::Score));
    let little =
        profile("{multiPoint: {disabled: [{name: '*'}], enabled: [{name: PrioritySort}, {name: DefaultBinder}]}}");
    assert_eq!(
        (names(&little, Point::Filter).len(), names(&little, Point::Bind).len()),
        (0, 1)
    );
}

/// A plugin of somebody's own.
struct Own(&'static str, &'static [Point]);

impl Plugin for Own {
    fn name(&self) -> &'static str {
        self.0
    }

    fn points(&self) -> &'static [Point] {
        self.1
    }
}

#[test]
fn settings_at_an_extension_point_go_before_those_for_all_and_those_before_the_defaults() {
    // The documentation's example, with default plugins of these extension points in place of its own.
    let both: &[Point] = &[Point::Score, Point::Filter];
    let more: Vec<Arc<dyn Plugin>> = vec![
        Arc::new(Own("CustomQueueSort", &[Point::QueueSort])),
        Arc::new(Own("CustomPlugin1", both)),
        Arc::new(Own("CustomPlugin2", both)),
    ];
    let text = format!(
        "{HEAD}profiles:
- schedulerName: multipoint-scheduler
  plugins:
    multiPoint:
      enabled:
      - name: CustomQueueSort
      - name: CustomPlugin1
        weight: 3
      - name: CustomPlugin2
      disabled:
      - name: PrioritySort
    filter:
      disabled:
      - name: TaintToleration
    score:
      enabled:
      - name: ImageLocality
"
    );
    let config = SchedulerConfiguration::parse(&text, &more).unwrap();
    let profile = config.profiles[0].build(&Arc::new(Listers::holding()), &more);
    let names = |point| -> Vec<&str> { profile.plugins_at(point).into_iter().map(|(name, _)| name).collect() };
    assert_eq!(names(Point::QueueSort), ["CustomQueueSort"]);
    assert!(!names(Point::Filter).contains(&"TaintToleration"));
    assert!(names(Point::Filter).ends_with(&["CustomPlugin1", "CustomPlugin2"]));
    let score = profile.plugins_at(Point::Score);
    assert_eq!(score[0], ("ImageLocality", 1), "moved to the front");
    assert!(score.contains(&("TaintToleration", 3)), "disabled for filtering only");
    assert!(score.ends_with(&[("CustomPlugin1", 3), ("CustomPlugin2", 1)]));
}

#[test]
fn who_is_disabled_and_enabled_again_comes_where_it_is_named() {
    let more: Vec<Arc<dyn Plugin>> = vec![Arc::new(Own("OwnBinder", &[Point::Bind]))];
    let bind = |set: &str| {
        let text = format!("{HEAD}profiles:\n- plugins: {{bind: {set}}}\n");
        let config = SchedulerConfiguration::parse(&text, &more).unwrap();
        let built = config.profiles[0].build(&Arc::new(Listers::holding()), &more);
        let names: Vec<&str> = built
            .plugins_at(Point::Bind)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        names
    };
    assert_eq!(bind("{enabled: [{name: OwnBinder}]}"), ["DefaultBinder", "OwnBinder"]);
    for disabled in ["DefaultBinder", "'*'"] {
        let set =
            format!("{{disabled: [{{name: {disabled}}}], enabled: [{{name: OwnBinder}}, {{name: DefaultBinder}}]}}");
        assert_eq!(bind(&set), ["OwnBinder", "DefaultBinder"]);
    }
}

#[test]
fn a_profile_may_do_without_scoring() {
    let rest = "profiles:
- schedulerName: default-scheduler
- schedulerName: no-scoring-scheduler
  plugins: {preScore: {disabled: [{name: '*'}]}, score: {disabled: [{name: '*'}]}}
";
    let config = parse(rest).unwrap();
    let listers = Arc::new(Listers::holding());
    let built = config.profiles[1].build(&listers, &[]);
    assert!(built.plugins_at(Point::PreScore).is_empty() && built.plugins_at(Point::Score).is_empty());
    assert_eq!(built.plugins_at(Point::Filter), {
        config.profiles[0].build(&listers, &[]).plugins_at(Point::Filter)
    });
}

#[test]
fn what_is_left_empty_has_its_default() {
    assert_eq!(parse("profiles: []").unwrap(), SchedulerConfiguration::default());
    assert_eq!(
        parse("leaderElection: {leaseDuration: 0s, resourceLock: '', resourceName: '', resourceNamespace: ''}")
            .unwrap(),
        SchedulerConfiguration::default()
    );
    let arguments = |name: &str, args: &str| {
        let rest = format!("profiles:\n- pluginConfig:\n  - {{name: {name}, args: {args}}}\n");
        parse(&rest).unwrap().profiles.remove(0).arguments.remove(0)
    };
    for (name, args) in [
        ("NodeResourcesFit", "{scoringStrategy: {resources: []}}"),
        ("NodeResourcesBalancedAllocation", "{resources: []}"),
        ("PodTopologySpread", "{defaultConstraints: []}"),
        ("NodeAffinity", "{addedAffinity: null}"),
    ] {
        assert_eq!(arguments(name, args), arguments(name, "{}"), "{name}");
    }
    // Who is not elected need not hold to the order of durations.
    let single = parse("leaderElection: {leaderElect: false, leaseDuration: 1s}").unwrap();
    assert!(!single.leader_election.leader_elect);
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
      defaultConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, minDomains: 2,
        nodeAffinityPolicy: Ignore, nodeTaintsPolicy: Honor}]
  - name: NodeAffinity
    args:
      addedAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms:
          - matchExpressions: [{key: x, operator: Exists}, {key: size, operator: Gt, values: ['5']}]
            matchFields: [{key: metadata.name, operator: NotIn, values: [n1]}]
        preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 7
          preference: {matchExpressions: [{key: z, operator: In, values: [a, b]}]}
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
    let Arguments::PodTopologySpread(crate::plugins::pod_topology_spread::Defaults::List(spread)) = &arguments[1]
    else {
        panic!("{arguments:?}");
    };
    assert_eq!(
        (spread[0].min_domains, spread[0].honor_affinity, spread[0].honor_taints),
        (2, false, true)
    );
    let Arguments::NodeAffinity(Some(added)) = &arguments[2] else {
        panic!("{arguments:?}");
    };
    let expected = serde_json::json!({
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{
            "matchExpressions": [{"key": "x", "operator": "Exists"}, {"key": "size", "operator": "Gt", "values": ["5"]}],
            "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7,
            "preference": {"matchExpressions": [{"key": "z", "operator": "In", "values": ["a", "b"]}]}}]});
    assert_eq!(serde_json::to_value(added).unwrap(), expected);
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
            "line 3: podInitialBackoffSeconds: \"soon\" is not a whole number",
        ),
        (
            "podInitialBackoffSeconds: 30\npodMaxBackoffSeconds: 20",
            "line 4: podMaxBackoffSeconds: podMaxBackoffSeconds must not be less than podInitialBackoffSeconds",
        ),
        (
            "leaderElection:\n  leaseDuration: 15",
            "line 4: leaderElection.leaseDuration: \"15\" is no duration; write for example 15s or 1m30s",
        ),
        (
            "leaderElection:\n  leaseDuration: 5s",
            "line 3: leaderElection: must have leaseDuration > renewDeadline > retryPeriod",
        ),
        (
            "profiles:\n- schedulerName: a\n- percentageOfNodesToScore: 5",
            "line 5: profiles[1]: needs a schedulerName: there are several profiles",
        ),
        (
            "profiles:\n- schedulerName: ''",
            "line 4: profiles[0].schedulerName: must not be empty",
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
            "line 7: profiles[0].pluginConfig[0].args.addedAfinity: unknown field; there are \
             apiVersion, kind and addedAffinity",
        ),
        (
            "profiles:\n- pluginConfig:\n  - name: DefaultPreemption\n    args:\n      minCandidateNodesPercentage: 0\n      \
             minCandidateNodesAbsolute: 0\n",
            "line 6: profiles[0].pluginConfig[0].args: minCandidateNodesPercentage and minCandidateNodesAbsolute must not \
             both be 0",
        ),
        (
            "extenders:\n- urlPrefix: x",
            "line 3: extenders: scheduler extenders are not supported; write a plugin instead",
        ),
    ] {
        assert_eq!(parse(rest).unwrap_err().to_string(), expected, "{rest}");
    }
    for (args, expected) in [
        (
            "{defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: a b, whenUnsatisfiable: DoNotSchedule}]}",
            "defaultConstraints[0].topologyKey: \"a b\" is no label's name: ",
        ),
        (
            "{defaultingType: List, defaultConstraints: [{maxSkew: 0, topologyKey: a, whenUnsatisfiable: DoNotSchedule}]}",
            "defaultConstraints[0].maxSkew: must be from 1 to 2147483647, not 0",
        ),
        (
            "{defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: Never}]}",
            "defaultConstraints[0].whenUnsatisfiable: must be ScheduleAnyway or DoNotSchedule, not \"Never\"",
        ),
        (
            "{defaultingType: List, defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, \
             minDomains: 2}]}",
            "defaultConstraints[0].minDomains: needs whenUnsatisfiable: DoNotSchedule",
        ),
        (
            "{defaultConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}",
            "defaultConstraints: needs defaultingType: List",
        ),
        (
            "{defaultingType: None}",
            "defaultingType: must be System or List, not \"None\"",
        ),
    ] {
        let rest = format!("profiles:\n- pluginConfig:\n  - name: PodTopologySpread\n    args: {args}\n");
        let error = parse(&rest).unwrap_err().to_string();
        let expected = format!("line 6: profiles[0].pluginConfig[0].args.{expected}");
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    for (affinity, expected) in [
        ("{required: {}}", "required: unknown field; there are "),
        (
            "{requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: []}}",
            "requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: needs at least one term",
        ),
        (
            "{preferredDuringSchedulingIgnoredDuringExecution: [{weight: 101, preference: {}}]}",
            "preferredDuringSchedulingIgnoredDuringExecution[0].weight: must be from 1 to 100, not 101",
        ),
    ] {
        let rest =
            format!("profiles:\n- pluginConfig:\n  - name: NodeAffinity\n    args:\n      addedAffinity: {affinity}\n");
        let error = parse(&rest).unwrap_err().to_string();
        let expected = format!("line 7: profiles[0].pluginConfig[0].args.addedAffinity.{expected}");
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    for (term, expected) in [
        (
            "matchExpressions: [{key: x, operator: Is}]",
            "matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist, Gt, Lt, not \"Is\"",
        ),
        (
            "matchExpressions: [{key: x, operator: In}]",
            "matchExpressions[0]: needs values with this operator",
        ),
        (
            "matchExpressions: [{key: x, operator: Exists, values: [a]}]",
            "matchExpressions[0].values: must have no values with this operator",
        ),
        (
            "matchExpressions: [{key: x, operator: Gt, values: [a]}]",
            "matchExpressions[0].values: needs one value, a whole number, with this operator",
        ),
        (
            "matchExpressions: [{key: 'x y', operator: Exists}]",
            "matchExpressions[0].key: \"x y\" is no label's name: ",
        ),
        (
            "matchFields: [{key: metadata.name, operator: Exists}]",
            "matchFields[0].operator: must be one of In, NotIn, not \"Exists\"",
        ),
        (
            "matchFields: [{key: metadata.uid, operator: In, values: [a]}]",
            "matchFields[0]: key must be metadata.name, not \"metadata.uid\"",
        ),
    ] {
        let rest = format!(
            "profiles:\n- pluginConfig:\n  - name: NodeAffinity\n    args:\n      addedAffinity:\n        \
             requiredDuringSchedulingIgnoredDuringExecution:\n          nodeSelectorTerms:\n          - {term}\n"
        );
        let error = parse(&rest).unwrap_err().to_string();
        let terms = "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
        let expected = format!("line 10: profiles[0].pluginConfig[0].args.{terms}.{expected}");
        assert!(error.starts_with(&expected), "{error}\n{expected}");
    }
    let wrong = SchedulerConfiguration::parse("apiVersion: v1\nkind: Pod\n", &[]).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "line 1: apiVersion: must be kubescheduler.config.k8s.io/v1, not \"v1\""
    );
    assert_eq!(parse("a: [1").unwrap_err().line, 3);
    for nothing in ["", "# nothing\n", "{}"] {
        let error = SchedulerConfiguration::parse(nothing, &[]).unwrap_err();
        assert_eq!(error.to_string(), "line 1: apiVersion: is required", "{nothing}");
    }
}
