//! Who asks for a certificate is written into the request by the server, whatever the request says.

use async_trait::async_trait;
use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::json;

use super::{Admission, Attributes, Operation};

pub(super) struct CertificateRequester;

#[async_trait]
impl Admission for CertificateRequester {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create
            && attributes.row.group == "certificates.k8s.io"
            && attributes.row.plural == "certificatesigningrequests"
    }

    async fn mutate(&self, attributes: &Attributes<'_>, request: &mut Object) -> Result<bool, Status> {
        let user = attributes.user;
        request.set(&["spec", "username"], user.name.as_str());
        request.set(&["spec", "groups"], json!(user.groups));
        for field in ["uid", "extra"] {
            request.remove(&["spec", field]);
        }
        if !user.uid.is_empty() {
            request.set(&["spec", "uid"], user.uid.as_str());
        }
        if !user.extra.is_empty() {
            request.set(&["spec", "extra"], json!(user.extra));
        }
        Ok(true)
    }
}
