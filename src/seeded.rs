//! Bugs to order: a module names rules of its own that can be broken, one at a time and in one thread, so that the tests can
//! show that they would notice. Only the library's own tests can switch one on.

/// Gives a module with an `enum Bug` the functions `on`, which elsewhere than in tests is false and costs nothing, and
/// `with`.
macro_rules! switch {
    ($vis:vis) => {
        #[cfg(test)]
        thread_local! {
            static NOW: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
        }

        /// Whether `bug` is switched on in this thread.
        #[inline(always)]
        $vis fn on(bug: Bug) -> bool {
            #[cfg(test)]
            return NOW.get() == Some(bug);
            #[cfg(not(test))]
            {
                let _ = bug;
                false
            }
        }

        /// Runs `f` with `bug` switched on.
        #[cfg(test)]
        $vis fn with<T>(bug: Option<Bug>, f: impl FnOnce() -> T) -> T {
            NOW.set(bug);
            let result = f();
            NOW.set(None);
            result
        }
    };
}

pub(crate) use switch;
