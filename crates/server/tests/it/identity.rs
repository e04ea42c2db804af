//! Who somebody is: tokens of every kind, impersonation, certificates; and that nobody grants more than they have.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coracle_api::service::{ListOptions, Operation, UserInfo};
use coracle_api::status::Status;
use coracle_clock::Clock;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, admin, at, named, object, options, sub, user};

const RBAC: &str = "rbac.authorization.k8s.io";
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Who a request with this token is.
async fn who(cluster: &Cluster, token: &str) -> Option<Value> {
    let mut http = cluster.http(false).await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let got = http.send(Method::POST, SELF, &headers, "{}").await;
    (got.code == 201).then(|| got.json()["status"]["userInfo"].clone())
}

async fn token_request(cluster: &Cluster, account: &str, spec: Value) -> Result<Value, Status> {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let made = cluster
        .create(sub("serviceaccounts", account, "token"), request)
        .await?;
    Ok(made.into_value())
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn with_account() -> Cluster {
    let cluster = Cluster::start().await;
    cluster
        .create(at("serviceaccounts"), json!({"metadata": {"name": "sa"}}))
        .await
        .unwrap();
    cluster
}

#[tokio::test]
async fn a_token_lives_with_what_it_is_bound_to() {
    let cluster = with_account().await;
    cluster
        .create(at("secrets"), json!({"metadata": {"name": "s"}}))
        .await
        .unwrap();
    cluster
        .create(at("/nodes"), json!({"metadata": {"name": "n"}}))
        .await
        .unwrap();
    let mut pod = crate::admission_pods::pod("p");
    pod["spec"]["serviceAccountName"] = "sa".into();
    pod["spec"]["nodeName"] = "n".into();
    cluster.create(at("pods"), pod).await.unwrap();
    for (kind, target, extra) in [
        ("Pod", named("pods", "p"), "authentication.kubernetes.io/pod-name"),
        (
            "Secret",
            named("secrets", "s"),
            "authentication.kubernetes.io/credential-id",
        ),
        ("Node", named("/nodes", "n"), "authentication.kubernetes.io/node-uid"),
    ] {
        let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": target.name}});
        let request = token_request(&cluster, "sa", bound).await.unwrap();
        let token = request["status"]["token"].as_str().unwrap();
        let user = who(&cluster, token).await.unwrap_or_else(|| panic!("{kind}"));
        assert!(user["extra"][extra][0].is_string(), "{kind}: {user}");
        let now = coracle_api::service::DeleteOptions {
            grace_period_seconds: Some(0),
            ..Default::default()
        };
        cluster.delete(target, now).await.unwrap();
        assert_eq!(who(&cluster, token).await, None, "{kind}");
    }
    let gone = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    assert_eq!(token_request(&cluster, "sa", gone).await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_token_is_for_its_audiences_and_lives_within_bounds() {
    let cluster = with_account().await;
    let request = token_request(
        &cluster,
        "sa",
        json!({"audiences": ["vault"], "expirationSeconds": 600}),
    )
    .await
    .unwrap();
    let token = request["status"]["token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 600);
    assert_eq!(who(&cluster, token).await, None, "the server is no vault");
    let review = |audiences: Value| json!({"spec": {"token": token, "audiences": audiences}});
    let reviews = || at("/authentication.k8s.io/v1/tokenreviews");
    let known = cluster.create(reviews(), review(json!(["vault", "x"]))).await.unwrap();
    assert_eq!(known.bool(&["status", "authenticated"]), Some(true));
    assert_eq!(known.array(&["status", "audiences"]), ["vault"]);
    let unknown = cluster.create(reviews(), review(json!(["x"]))).await.unwrap();
    assert_eq!(unknown.bool(&["status", "authenticated"]), Some(false));
    for (seconds, text) in [
        (599, "may not specify a duration less than 10 minutes"),
        ((1i64 << 32) + 1, "may not specify a duration larger than 2^32 seconds"),
    ] {
        let refused = token_request(&cluster, "sa", json!({"expirationSeconds": seconds})).await;
        assert!(refused.unwrap_err().message.contains(text), "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_and_certificates_are_renewed_while_the_server_runs() {
    // What is renewed in eight months from then is good now.
    let now = Clock::system().now();
    let then = now.checked_sub(jiff::SignedDuration::from_hours(24 * 260)).unwrap();
    let clock = Clock::starting_at(then);
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::start_with(store, |options| options.clock = clock).await;
    let before = cluster.server.admin_kubeconfig();
    let mut credentials = cluster.server.credentials();
    // Time passes as fast as nobody does anything, up to the renewal.
    let renewed = clock
        .timeout(Duration::from_secs(300 * 86_400), credentials.renewed())
        .await
        .expect("nothing was renewed");
    tokio::time::resume();
    assert!(renewed.is_some());
    assert_ne!(credentials.kubeconfig(), before);
    let stream = cluster.tls(true).await;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let (_, shown) = x509_parser::parse_x509_certificate(&shown).unwrap();
    let made = shown.validity().not_before.timestamp();
    assert!(made > then.as_second() + 200 * 86_400, "an old certificate is shown");
    let mut http = cluster.http(true).await;
    assert_eq!(http.get("/api").await.code, 200);
}

#[tokio::test]
async fn a_new_signing_key_is_published_beside_the_old_one() {
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().join("pki");
    let mut ids = Vec::new();
    let mut tokens = Vec::new();
    for round in 0..2 {
        let at_pki = pki.clone();
        let cluster = Cluster::start_with(store.clone(), move |options| options.pki_dir = at_pki).await;
        if round == 0 {
            cluster
                .create(at("serviceaccounts"), json!({"metadata": {"name": "sa"}}))
                .await
                .unwrap();
        }
        let request = token_request(&cluster, "sa", json!({})).await.unwrap();
        tokens.push(request["status"]["token"].as_str().unwrap().to_owned());
        let mut http = cluster.http_at(&pki, true).await;
        let keys = http.get("/openid/v1/jwks").await.json();
        ids.push(
            keys["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|k| k["kid"].clone())
                .collect::<Vec<_>>(),
        );
        let discovery = http.get("/.well-known/openid-configuration").await.json();
        assert_eq!(discovery["issuer"], claims(&tokens[0])["iss"]);
        for token in &tokens {
            let review = json!({"spec": {"token": token}});
            let known = cluster
                .create(at("/authentication.k8s.io/v1/tokenreviews"), review)
                .await
                .unwrap();
            assert_eq!(known.bool(&["status", "authenticated"]), Some(true));
        }
        cluster.server.shutdown().await;
        std::fs::remove_file(pki.join("sa.key")).unwrap();
    }
    assert_eq!((ids[0].len(), ids[1].len()), (1, 2));
    assert_eq!(ids[1][1], ids[0][0]);
}

#[tokio::test]
async fn static_and_bootstrap_tokens_name_their_users() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens.csv");
    std::fs::write(&file, "s3cret,ann,7,\"people,admins\"\n").unwrap();
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::start_with(store, |options| options.token_file = Some(file)).await;
    let ann = who(&cluster, "s3cret").await.unwrap();
    assert_eq!(
        ann,
        json!({"username": "ann", "uid": "7", "groups": ["people", "admins", "system:authenticated"]})
    );
    let encoded = |text: &str| STANDARD.encode(text);
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {
            "token-id": encoded("abcdef"),
            "token-secret": encoded("0123456789abcdef"),
            "usage-bootstrap-authentication": encoded("true"),
            "auth-extra-groups": encoded("system:bootstrappers:edge"),
        },
    });
    let mut system = at("secrets");
    system.namespace = "kube-system".into();
    cluster.create(system, secret).await.unwrap();
    let joining = who(&cluster, "abcdef.0123456789abcdef").await.unwrap();
    assert_eq!(joining["username"], "system:bootstrap:abcdef");
    assert_eq!(
        joining["groups"],
        json!([
            "system:bootstrappers",
            "system:bootstrappers:edge",
            "system:authenticated"
        ])
    );
    assert_eq!(who(&cluster, "abcdef.0123456789abcdee").await, None);
}

#[tokio::test]
async fn somebody_else_is_impersonated_in_all_that_they_are() {
    let cluster = Cluster::start().await;
    let mut http = cluster.http(true).await;
    let headers = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "people"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scopes", "read"),
        ("impersonate-extra-example.com%2fkey", "value"),
        ("content-type", "application/json"),
    ];
    let got = http.send(Method::POST, SELF, &headers, "{}").await;
    assert_eq!(
        got.json()["status"]["userInfo"],
        json!({
            "username": "bob",
            "uid": "7",
            "groups": ["people", "system:authenticated"],
            "extra": {"scopes": ["read"], "example.com/key": ["value"]},
        })
    );
    let group_alone = [("impersonate-group", "people")];
    assert_eq!(http.send(Method::GET, "/api", &group_alone, "").await.code, 400);
}

fn create(value: Value) -> Operation {
    Operation::Create {
        object: object(value),
        options: options(),
    }
}

async fn grant(cluster: &Cluster, to: &str, rules: Value) {
    let group = format!("/{RBAC}/v1");
    let role = json!({"metadata": {"name": to}, "rules": rules});
    cluster
        .create(at(&format!("{group}/clusterroles")), role)
        .await
        .unwrap();
    let binding = json!({
        "metadata": {"name": to},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": to},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": to}],
    });
    cluster
        .create(at(&format!("{group}/clusterrolebindings")), binding)
        .await
        .unwrap();
    cluster
        .list(at(&format!("{group}/clusterrolebindings")), ListOptions::default())
        .await
        .unwrap();
}

fn bob() -> UserInfo {
    user("bob", &["system:authenticated"])
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_have() {
    let cluster = Cluster::start().await;
    let roles = format!("/{RBAC}/v1/clusterroles");
    let bindings = format!("/{RBAC}/v1/clusterrolebindings");
    let rules = json!([
        {"verbs": ["*"], "apiGroups": [RBAC], "resources": ["clusterroles", "clusterrolebindings"],
         "resourceNames": []},
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
    ]);
    // Everything on roles, by the verbs that are not `escalate` and `bind`.
    let mut rules = rules;
    rules[0]["verbs"] = json!(["create", "update", "get"]);
    grant(&cluster, "bob", rules).await;
    let own = json!({"metadata": {"name": "own"}, "rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
    ]});
    cluster.call_as(&bob(), at(&roles), create(own)).await.unwrap();
    let more = json!({"metadata": {"name": "more"}, "rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "secrets"]},
    ]});
    let refused = cluster.call_as(&bob(), at(&roles), create(more)).await.err().unwrap();
    assert_eq!(
        refused.message,
        "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], \
         Verbs:[\"get\"]}"
    );
    let bind = |name: &str, role: &str| {
        create(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "bob"}],
        }))
    };
    cluster.call_as(&bob(), at(&bindings), bind("b1", "own")).await.unwrap();
    let refused = cluster
        .call_as(&bob(), at(&bindings), bind("b2", "cluster-admin"))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code, 403);
    assert!(
        refused.message.contains("attempting to grant RBAC permissions"),
        "{}",
        refused.message
    );
    let missing = cluster
        .call_as(&bob(), at(&bindings), bind("b3", "nothing"))
        .await
        .err()
        .unwrap();
    assert_eq!(missing.code, 404);
    let sum = create(json!({
        "metadata": {"name": "sum"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]},
    }));
    let refused = cluster.call_as(&bob(), at(&roles), sum).await.err().unwrap();
    assert!(
        refused
            .message
            .ends_with("must have cluster-admin privileges to use the aggregationRule"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn who_may_bind_and_escalate_grants_anything() {
    let cluster = Cluster::start().await;
    grant(
        &cluster,
        "bob",
        json!([{"verbs": ["create", "escalate", "bind"], "apiGroups": [RBAC],
                "resources": ["clusterroles", "clusterrolebindings"]}]),
    )
    .await;
    let role = json!({"metadata": {"name": "r"}, "rules": [
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    ]});
    let roles = at(&format!("/{RBAC}/v1/clusterroles"));
    cluster.call_as(&bob(), roles, create(role)).await.unwrap();
}

#[tokio::test]
async fn system_roles_are_completed_at_the_next_start_unless_that_is_switched_off() {
    let store = std::sync::Arc::new(coracle_store::Embedded::in_memory());
    let cluster = Cluster::with(store.clone()).await;
    let roles = format!("/{RBAC}/v1/clusterroles");
    for (name, auto) in [("system:basic-user", "true"), ("system:discovery", "false")] {
        let mut role = cluster.get(named(&roles, name)).await.unwrap();
        role.set(&["rules"], json!([]));
        role.set(
            &["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"],
            auto,
        );
        cluster.update(named(&roles, name), role).await.unwrap();
    }
    cluster.server.shutdown().await;
    let cluster = Cluster::with(store).await;
    let count = async |name: &str| cluster.get(named(&roles, name)).await.unwrap().array(&["rules"]).len();
    assert!(count("system:basic-user").await > 0);
    assert_eq!(count("system:discovery").await, 0);
}

#[tokio::test]
async fn access_is_reviewed_for_oneself_and_for_others() {
    let cluster = Cluster::start().await;
    grant(
        &cluster,
        "bob",
        json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]),
    )
    .await;
    let ask = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let review = json!({"spec": {"user": "bob", "resourceAttributes": ask}});
    let answer = cluster
        .create(at("/authorization.k8s.io/v1/subjectaccessreviews"), review.clone())
        .await
        .unwrap();
    assert_eq!(answer.bool(&["status", "allowed"]), Some(true));
    let mut local = at("authorization.k8s.io/v1/localsubjectaccessreviews");
    let answer = cluster.create(local.clone(), review.clone()).await.unwrap();
    assert_eq!(answer.bool(&["status", "allowed"]), Some(true));
    local.namespace = "kube-system".into();
    assert_eq!(cluster.create(local, review).await.unwrap_err().code, 400);
    let rules = at("/authorization.k8s.io/v1/selfsubjectrulesreviews");
    let spec = json!({"spec": {"namespace": "default"}});
    let (answer, _) = cluster.create_as(&bob(), rules.clone(), spec.clone()).await.unwrap();
    let found = answer.array(&["status", "resourceRules"]);
    assert!(found.iter().any(|r| r["resources"] == json!(["pods"])), "{found:?}");
    assert_eq!(answer.bool(&["status", "incomplete"]), Some(false));
    let node = user("system:node:n", &["system:nodes", "system:authenticated"]);
    let (answer, _) = cluster.create_as(&node, rules, spec).await.unwrap();
    assert_eq!(answer.bool(&["status", "incomplete"]), Some(true));
    assert_eq!(
        answer.str(&["status", "evaluationError"]),
        Some("node authorizer does not support user rule resolution")
    );
    let _ = admin();
}
