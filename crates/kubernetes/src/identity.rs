//! Who is at the other end of the job channel: the controller by a certificate of its own authority, the
//! worker by its pod's token, of which the API server says whose it is.

mod authority;
mod review;

pub(crate) use self::authority::PassingAuthority;
pub use self::{
    authority::{Authority, AuthorityError, CA_CONFIG_MAP, CA_KEY},
    review::{PodIdentity, TOKEN_AUDIENCE},
};
