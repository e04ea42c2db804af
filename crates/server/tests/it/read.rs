//! Lists: their versions, their pages, their selectors.

use coracle_api::service::{ListOptions, VersionMatch};
use serde_json::json;

use crate::harness::{Cluster, at, config_map, names};

fn limited(limit: u64, token: &str) -> ListOptions {
    ListOptions {
        limit,
        continue_token: token.into(),
        ..ListOptions::default()
    }
}

async fn filled(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    for i in 0..count {
        let mut map = config_map(&format!("m{i:03}"));
        map["metadata"]["labels"] = json!({"third": (i % 3).to_string()});
        cluster.create(at("configmaps"), map).await.unwrap();
    }
    cluster
}

#[tokio::test]
async fn pages_show_one_state_however_it_changes_meanwhile() {
    let cluster = filled(25).await;
    let first = cluster.list(at("configmaps"), limited(10, "")).await.unwrap();
    assert_eq!((first.items.len(), first.remaining), (10, Some(15)));
    cluster.create(at("configmaps"), config_map("m010a")).await.unwrap();
    cluster
        .delete(crate::harness::named("configmaps", "m020"), Default::default())
        .await
        .unwrap();
    let second = cluster
        .list(at("configmaps"), limited(10, &first.continue_token))
        .await
        .unwrap();
    assert_eq!(second.revision, first.revision);
    let third = cluster
        .list(at("configmaps"), limited(10, &second.continue_token))
        .await
        .unwrap();
    assert_eq!(
        (third.items.len(), third.continue_token.as_str(), third.remaining),
        (5, "", None)
    );
    let all: Vec<String> = [first, second, third].iter().flat_map(names).collect();
    assert_eq!(all, (0..25).map(|i| format!("m{i:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_of_a_selection_are_full_and_end_where_it_ends() {
    let cluster = filled(30).await;
    let mut options = limited(4, "");
    options.label_selector = "third in (1)".into();
    let mut all = Vec::new();
    loop {
        let page = cluster.list(at("configmaps"), options.clone()).await.unwrap();
        all.extend(names(&page));
        assert_eq!(page.remaining, None);
        if page.continue_token.is_empty() {
            break;
        }
        options.continue_token = page.continue_token;
        // Something changes between pages, so that they come from the store's past.
        cluster
            .create(at("configmaps"), json!({"metadata": {"generateName": "z"}}))
            .await
            .unwrap();
    }
    assert_eq!(all, (0..10).map(|i| format!("m{:03}", 3 * i + 1)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_list_has_the_stores_version_and_can_be_of_an_exact_one() {
    let cluster = filled(3).await;
    let before = cluster.list(at("configmaps"), ListOptions::default()).await.unwrap();
    // A write elsewhere moves the version of every list.
    let other = cluster
        .create(at("serviceaccounts"), json!({"metadata": {"name": "x"}}))
        .await
        .unwrap();
    let after = cluster.list(at("configmaps"), ListOptions::default()).await.unwrap();
    assert_eq!(after.revision.to_string(), other.resource_version());
    cluster.create(at("configmaps"), config_map("z")).await.unwrap();
    let exact = ListOptions {
        resource_version: before.revision.to_string(),
        resource_version_match: Some(VersionMatch::Exact),
        ..ListOptions::default()
    };
    let past = cluster.list(at("configmaps"), exact).await.unwrap();
    assert_eq!((past.items.len(), past.revision), (3, before.revision));
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused() {
    let cluster = filled(1).await;
    let no_version = ListOptions {
        resource_version_match: Some(VersionMatch::Exact),
        ..ListOptions::default()
    };
    let refused = cluster.list(at("configmaps"), no_version).await.unwrap_err();
    assert!(
        refused
            .message
            .contains("resourceVersionMatch is forbidden unless resourceVersion is provided")
    );
    assert_eq!(
        cluster
            .list(at("configmaps"), limited(1, "nonsense"))
            .await
            .unwrap_err()
            .code,
        400
    );
    let field = ListOptions {
        field_selector: "data.k=v".into(),
        ..ListOptions::default()
    };
    assert_eq!(cluster.list(at("configmaps"), field).await.unwrap_err().code, 400);
}

#[tokio::test]
async fn fields_select_by_name_and_by_what_the_kind_offers() {
    let cluster = filled(3).await;
    let field = |selector: &str| ListOptions {
        field_selector: selector.into(),
        ..ListOptions::default()
    };
    let one = cluster
        .list(at("configmaps"), field("metadata.name=m001"))
        .await
        .unwrap();
    assert_eq!(names(&one), ["m001"]);
    let others = cluster
        .list(at("configmaps"), field("metadata.name!=m001"))
        .await
        .unwrap();
    assert_eq!(names(&others), ["m000", "m002"]);
    for (name, kind) in [("a", "Opaque"), ("b", "example.com/x")] {
        cluster
            .create(at("secrets"), json!({"metadata": {"name": name}, "type": kind}))
            .await
            .unwrap();
    }
    let secrets = cluster.list(at("secrets"), field("type=example.com/x")).await.unwrap();
    assert_eq!(names(&secrets), ["b"]);
}
