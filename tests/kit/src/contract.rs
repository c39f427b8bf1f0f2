//! A contract suite: each scenario is written once, for every part that keeps the contract.

/// Makes a module of tests for each part, with a test for each scenario.
///
/// `contract!([one, two] for double = parts::Double, real = parts::Real);` makes the tests
/// `double::one`, `double::two`, `real::one` and `real::two`, which run the functions
/// `one::<Part>()` and `two::<Part>()` of the module `scenarios` beside it.
#[macro_export]
macro_rules! contract {
    (@part $module:ident, $part:ty, [$($scenario:ident),+ $(,)?]) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $scenario() {
                    super::scenarios::$scenario::<$part>().await;
                }
            )+
        }
    };
    ($scenarios:tt for $($module:ident = $part:ty),+ $(,)?) => {
        $($crate::contract!(@part $module, $part, $scenarios);)+
    };
}
