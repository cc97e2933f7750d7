package ctree_test

import (
	"testing"

	"whale/workload/whisper/crashtest"
	"whale/workload/whisper/ctree"
)

func with(t testing.TB, p ctree.Params) *ctree.Tree {
	t.Helper()
	w, err := ctree.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// small is full soon.
func small(t testing.TB) *ctree.Tree {
	return with(t, ctree.Params{Keys: 8, Prepare: 3, Value: 24})
}

func TestLossOfPower(t *testing.T) { crashtest.Run(t, small(t), crashtest.Options{}) }

func TestDamageIsFound(t *testing.T) { crashtest.Damage(t, small(t), 4) }

func TestThreads(t *testing.T) { crashtest.Threads(t, small(t), 4, 500) }

// TestOneKey: the tree becomes empty and is filled again.
func TestOneKey(t *testing.T) {
	crashtest.Threads(t, with(t, ctree.Params{Keys: 1, Prepare: 1}), 1, 101)
}

func TestParams(t *testing.T) {
	for _, p := range []ctree.Params{{Keys: -1}, {Keys: 3, Prepare: 4}, {Value: 8}, {Value: 1 << 20}, {Think: -1}} {
		if _, err := ctree.New(p); err == nil {
			t.Errorf("%+v is taken", p)
		}
	}
	crashtest.Parameters(t, small(t), with(t, ctree.Params{Keys: 9, Prepare: 3, Value: 24}))
}
