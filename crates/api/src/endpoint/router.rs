//! Finds the row of a method and a path.

use super::{ENDPOINTS, Method, RouteRow};
use crate::headers::CrossOrigin;
use matchit::{Match, Router};

/// The result of routing a method and a path.
#[derive(Clone, Debug)]
pub enum Route {
    /// The row of an endpoint, with the path's parameters in order.
    Found(&'static RouteRow, Vec<String>),
    /// The path exists with other methods.
    OtherMethods(Vec<Method>),
    /// No route has this path.
    Nowhere,
}

/// The table as a matcher.
#[derive(Debug)]
pub struct Routes(Router<Vec<&'static RouteRow>>);

impl Routes {
    /// Builds the matcher.
    ///
    /// # Errors
    /// Where two rows of the table conflict; a test holds that they do not.
    pub fn build() -> Result<Self, matchit::InsertError> {
        let mut router: Router<Vec<&'static RouteRow>> = Router::new();
        for row in ENDPOINTS {
            for path in [Some(row.path), row.alias].into_iter().flatten() {
                let rows = ENDPOINTS.iter().filter(|other| other.path == path || other.alias == Some(path)).collect();
                if router.at(path).is_err() || path.contains('{') {
                    match router.insert(path, rows) {
                        Ok(()) | Err(matchit::InsertError::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(Self(router))
    }

    /// The rows of a path; one slash at its end is ignored.
    fn at<'a>(&self, path: &'a str) -> Option<Match<'_, 'a, &Vec<&'static RouteRow>>> {
        let path = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
        self.0.at(path).ok()
    }

    /// Whether pages of other origins may call a path: not where one of its routes takes a cookie.
    #[must_use]
    pub fn cross_origin(&self, path: &str) -> CrossOrigin {
        let refused = self.at(path).is_some_and(|found| found.value.iter().any(|row| row.access.reads_cookie()));
        if refused { CrossOrigin::Refused } else { CrossOrigin::Allowed }
    }

    /// Routes a method and a path. One slash at the end is ignored. `url_key`: the path held a key, which only some
    /// routes accept.
    #[must_use]
    pub fn find(&self, method: &str, path: &str, url_key: bool) -> Route {
        let Some(found) = self.at(path) else { return Route::Nowhere };
        let wanted = Method::parse(method);
        let mut rows = found.value.iter().filter(|row| row.url_key || !url_key);
        match rows.clone().find(|row| Some(row.method) == wanted) {
            Some(row) => Route::Found(row, found.params.iter().map(|(_, value)| value.to_owned()).collect()),
            None if rows.next().is_none() => Route::Nowhere,
            None => Route::OtherMethods(found.value.iter().map(|row| row.method).collect()),
        }
    }
}
