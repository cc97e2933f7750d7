package memcached_test

import (
	"testing"

	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/memcached"
)

func with(t testing.TB, p memcached.Params) *memcached.Cache {
	t.Helper()
	w, err := memcached.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// small has an item or two in each of its parts.
func small(t testing.TB) *memcached.Cache {
	return with(t, memcached.Params{Keys: 100, Cached: 32, Smallest: 20, Largest: 90, Sets: 30, Threads: 2})
}

func TestLossOfPower(t *testing.T) { crashtest.Run(t, small(t), crashtest.Options{Runs: 3}) }

func TestDamageIsFound(t *testing.T) { crashtest.Damage(t, small(t), 20) }

func TestThreads(t *testing.T) {
	crashtest.Threads(t, with(t, memcached.Params{Keys: 100, Cached: 32}), 4, 500)
}

func TestParams(t *testing.T) {
	for _, p := range []memcached.Params{{Keys: -1}, {Keys: 20, Cached: 32}, {Cached: 3}, {Smallest: 600, Largest: 599}, {Largest: 1 << 20},
		{Sets: 101}, {Threads: 17}, {Think: -1}} {
		if _, err := memcached.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	crashtest.Parameters(t, small(t), with(t, memcached.Params{Keys: 100, Cached: 33, Largest: 90}))
}
