//! Who we are, and what the service is.

use dayfly_protocol::connection::ConnectionData;
use http::Method;

use crate::connection::Connection;
use crate::error::Result;
use crate::operation::Operation;
use crate::request::{Request, segments};

impl Connection {
    /// Who the credential belongs to and what the service is: the cheapest call that proves address and
    /// credential.
    pub async fn connection_data(&self) -> Result<ConnectionData> {
        let path = segments!["_apis", "connectionData"];
        let object = format!("of {}", self.url());
        let request = Request::new(Operation::GetConnectionData, object, Method::GET, self.url(), path)
            .query("connectOptions", 1)
            .query("lastChangeId", -1)
            .query("lastChangeId64", -1);
        self.call(request).await
    }
}
