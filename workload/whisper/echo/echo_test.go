package echo_test

import (
	"testing"

	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/echo"
)

func with(t testing.TB, p echo.Params) *echo.Store {
	t.Helper()
	w, err := echo.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// small forgets versions soon.
func small(t testing.TB) *echo.Store {
	return with(t, echo.Params{Keys: 6, Prepare: 2, Key: 16, Value: 100, Merge: 3, Versions: 2, Threads: 2})
}

func TestLossOfPower(t *testing.T) {
	crashtest.Run(t, small(t), crashtest.Options{Transactions: 8, Runs: 3})
}

func TestDamageIsFound(t *testing.T) { crashtest.Damage(t, small(t), 5) }

func TestThreads(t *testing.T) { crashtest.Threads(t, small(t), 4, 300) }

func TestParams(t *testing.T) {
	for _, p := range []echo.Params{{Keys: -1}, {Keys: 3, Prepare: 4}, {Key: 4}, {Value: 4}, {Merge: -1}, {Gets: -1}, {Versions: 100}, {Threads: 17}, {Think: -1}} {
		if _, err := echo.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	crashtest.Parameters(t, small(t), with(t, echo.Params{Keys: 6, Prepare: 2, Key: 24, Value: 100, Versions: 2}))
}
