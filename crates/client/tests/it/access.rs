//! Who calls, and whether it may: what is asked of the API server, and what is remembered.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::object::StoredObject;
use coracle_api::resource::Registry;
use coracle_api::service::{Answer, Operation, Request, Response, Service, UserInfo};
use coracle_api::status::Status;
use coracle_client::Client;
use coracle_client::access::{Access, Permission};
use coracle_clock::Clock;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;

/// Knows the token `known` as `reader`, who may get `/metrics`.
#[derive(Clone, Default)]
struct Judge(Arc<Mutex<Vec<String>>>);

impl Service for Judge {
    fn call<'a>(&'a self, _user: &'a UserInfo, request: Request) -> BoxFuture<'a, Result<Response, Status>> {
        self.0.lock().push(request.target.resource.clone());
        let Operation::Create { mut object, .. } = request.operation else {
            return Box::pin(async { Err(Status::bad_request("reviews are created")) });
        };
        if request.target.resource == "tokenreviews" {
            let is_known = object.str(&["spec", "token"]) == Some("known");
            let user = json!({"username": "reader", "groups": ["system:authenticated"]});
            object.set(&["status"], json!({"authenticated": is_known, "user": user}));
        } else {
            let path = object.str(&["spec", "nonResourceAttributes", "path"]);
            let allowed = path == Some("/metrics") && object.str(&["spec", "user"]) == Some("reader");
            object.set(&["status"], json!({"allowed": allowed}));
        }
        let answer = Answer::Object {
            object: Arc::new(StoredObject::from_object(object).unwrap()),
            created: true,
        };
        Box::pin(async {
            Ok(Response {
                answer,
                warnings: Vec::new(),
            })
        })
    }
}

fn get(path: &str) -> Permission {
    Permission::Path {
        verb: "get",
        path: path.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_api_server_is_asked_once_and_again_when_it_may_have_changed_its_mind() {
    let judge = Judge::default();
    let client = Client::in_process(
        Arc::new(judge.clone()),
        Arc::new(Registry::from_rows([])),
        UserInfo::default(),
    );
    let clock = Clock::system();
    let access = Access::new(client, clock);
    let asked = || std::mem::take(&mut *judge.0.lock());
    for _ in 0..3 {
        let user = access.user("known").await.unwrap().unwrap();
        assert!(access.allows(&user, &get("/metrics")).await.unwrap());
        assert!(!access.allows(&user, &get("/debug")).await.unwrap());
    }
    let first = ["tokenreviews", "subjectaccessreviews", "subjectaccessreviews"];
    assert_eq!(asked(), first);
    // A refusal is soon asked about again, a token later, leave that was given last of all.
    clock.sleep(Duration::from_secs(60)).await;
    let user = access.user("known").await.unwrap().unwrap();
    assert!(!access.allows(&user, &get("/debug")).await.unwrap());
    assert!(access.allows(&user, &get("/metrics")).await.unwrap());
    assert_eq!(asked(), ["subjectaccessreviews"]);
    clock.sleep(Duration::from_secs(90)).await;
    access.user("known").await.unwrap().unwrap();
    assert!(access.allows(&user, &get("/metrics")).await.unwrap());
    assert_eq!(asked(), ["tokenreviews"]);
}

#[tokio::test]
async fn strangers_are_remembered_by_nobody_and_administrators_need_not_be_asked_about() {
    let judge = Judge::default();
    let client = Client::in_process(
        Arc::new(judge.clone()),
        Arc::new(Registry::from_rows([])),
        UserInfo::default(),
    );
    let access = Access::new(client, Clock::system());
    for _ in 0..2 {
        assert!(access.user("guessed").await.unwrap().is_none());
    }
    assert_eq!(judge.0.lock().len(), 2);
    let master = k8s_openapi::api::authentication::v1::UserInfo {
        groups: Some(vec!["system:masters".to_owned()]),
        ..Default::default()
    };
    assert!(access.allows(&master, &get("/debug")).await.unwrap());
    assert_eq!(judge.0.lock().len(), 2);
}
