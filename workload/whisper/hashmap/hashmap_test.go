package hashmap_test

import (
	"testing"

	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/hashmap"
)

func small(t testing.TB) *hashmap.Map {
	t.Helper()
	// It grows once, and is full soon.
	w, err := hashmap.New(hashmap.Params{Keys: 10, Buckets: 2, Value: 40})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLossOfPower(t *testing.T) { crashtest.Run(t, small(t), crashtest.Options{Transactions: 16}) }

func TestDamageIsFound(t *testing.T) { crashtest.Damage(t, small(t), 9) }

func TestThreads(t *testing.T) { crashtest.Threads(t, small(t), 4, 500) }

func TestParams(t *testing.T) {
	for _, p := range []hashmap.Params{{Keys: -1}, {Buckets: 3}, {Value: 4}, {Value: 1 << 20}, {Think: -1}} {
		if _, err := hashmap.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	crashtest.Parameters(t, small(t), func() *hashmap.Map {
		w, err := hashmap.New(hashmap.Params{Keys: 11, Buckets: 2, Value: 40})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}())
}
