//! Seeded bugs: a module names rules that its tests can break, one at a time and in one thread, to show that
//! they would notice. Only the library's own tests can switch a bug on. The module's `invariants` file says
//! what a broken rule does instead; the code that keeps the rules names them and nothing else.

/// Gives a module with an `enum Bug` the functions `on`, which is false and costs nothing outside of tests,
/// and `with`.
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
