//! Tokens of an identity on each request, as a policy below the retries: a token that the service refuses is
//! replaced once.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::AUTHORIZATION;
use azure_core::http::policies::{Policy, PolicyResult};
use azure_core::http::{Context, Request};
use transship_model::{Identity, Secret};
use transship_secrets::{IdentityError, Tokens};

/// Whose tokens open a container.
#[derive(Clone)]
pub struct IdentityAccess {
    /// The identity.
    pub identity: Identity,
    /// Where its tokens come from.
    pub tokens: Arc<dyn Tokens>,
    /// The service that tokens are for, without a slash at the end.
    pub audience: String,
}

impl IdentityAccess {
    /// A token that is good now.
    pub(crate) async fn token(&self) -> Result<Secret, IdentityError> {
        self.tokens.token(&self.identity, &self.audience).await
    }
}

impl fmt::Debug for IdentityAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.identity)
    }
}

/// Why there is no token, on its way through the SDK.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct TokenFault(pub(super) IdentityError);

/// Puts a token on each request.
#[derive(Debug)]
pub(super) struct BearerTokens(pub(super) IdentityAccess);

impl BearerTokens {
    async fn authorize(&self, request: &mut Request) -> azure_core::Result<Secret> {
        // Not of a kind that is retried: who gives tokens has been asked more than once already.
        let token =
            self.0.token().await.map_err(|error| Error::new(ErrorKind::Credential, TokenFault(error)))?;
        request.insert_header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        Ok(token)
    }
}

#[async_trait]
impl Policy for BearerTokens {
    async fn send(&self, context: &Context, request: &mut Request, next: &[Arc<dyn Policy>]) -> PolicyResult {
        let token = self.authorize(request).await?;
        let answer = next[0].send(context, request, &next[1..]).await?;
        if u16::from(answer.status()) != 401 {
            return Ok(answer);
        }
        // Revoked, or the clock of this machine stood still.
        self.0.tokens.forget(&self.0.identity, &self.0.audience, &token).await;
        self.authorize(request).await?;
        next[0].send(context, request, &next[1..]).await
    }
}
