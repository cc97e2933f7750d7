package sim

import (
	"testing"
	"time"

	"whale/internal/shard"
)

// expelled is a cluster from whose view a backup is lost for a while. What it does in the time in which it does not know, and
// some client reads there, is what leases are about.
func expelled(protocol string, more ...Fault) Faults {
	ms := Duration(time.Millisecond)
	return Faults{
		Drift: 200,
		Cluster: &Cluster{Members: 3, Protocol: protocol, Policy: "mirror", Mirrors: 1, Segments: 8, Clients: 24, Operations: 2500,
			Latency: Duration(5 * time.Microsecond), Think: Duration(time.Millisecond), Relaxed: true, Lease: 20 * ms, Patience: 2 * ms},
		Schedule: append([]Fault{{Kind: "cut", After: 800, For: 60 * ms, Members: []int{2}}}, more...),
	}
}

const mostStale = 16 // seeds

// stale looks, seed by seed, for what only clients can see: an old value after a newer one. It says how many seeds it looked
// at until it found one.
func stale(t *testing.T, o Options, seeds uint64) (text string, after uint64) {
	o.histories = true
	p := &pool{}
	for seed := range seeds {
		res, err := simulate(seed, &o, p)
		if err != nil {
			t.Fatal(err)
		}
		if v := res.Violation; v != nil {
			return res.foundBy(), seed + 1
		}
	}
	return "", 0
}

// Members that count on less drift than there is serve old values; those that know the bound do not, however large it is.
func TestTheBoundOnDriftMatters(t *testing.T) {
	if testing.Short() {
		t.Skip("long histories")
	}
	f := expelled("whale")
	f.Drift = 400_000
	fast := Options{Faults: f, clocks: []float64{0.4, 0, -0.4}} // P's, and slow the one of who is lost
	fast.Faults.Bound = 200
	text, after := stale(t, fast, mostStale)
	if after == 0 {
		t.Fatal("the bound means nothing")
	}
	t.Log(text)
	fast.Faults.Bound = f.Drift
	if text, found := stale(t, fast, after); found > 0 {
		t.Fatalf("the bound is kept, and yet: %s", text)
	}
}

// Each rule of leases that is taken away makes some client read an old value: not only a checker sees it.
func TestWithoutLeasesClientsReadOldValues(t *testing.T) {
	if testing.Short() {
		t.Skip("long histories")
	}
	ms := Duration(time.Millisecond)
	for _, v := range []struct {
		name   string
		faults Faults
		broken shard.Fault
	}{
		{"no check aside", expelled("whale"), shard.FaultNoLeaseAside},
		{"no check in the loop", expelled("chain"), shard.FaultNoLease},
		{"not waited out", expelled("whale"), shard.FaultNoLeaseWait},
		{"not waited out, in a chain", expelled("chain"), shard.FaultNoLeaseWait},
		{"not written down", expelled("whale"), shard.FaultNoPromise},
		{"forgotten", expelled("whale", Fault{Kind: "crash", After: 800, For: ms, Members: []int{0}}), shard.FaultForgetPromises},
		{"renewed", expelled("whale", Fault{Kind: "coordinator", After: 800, Delay: 45 * ms, For: 60 * ms}), shard.FaultRenewExpelled},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			text, after := stale(t, Options{Faults: v.faults, Broken: Broken{Engine: v.broken}}, mostStale)
			if after == 0 {
				t.Fatalf("%d seeds do not show it", mostStale)
			}
			t.Log(text)
			if text, found := stale(t, Options{Faults: v.faults}, after); found > 0 {
				t.Fatalf("nothing is broken, and yet: %s", text)
			}
		})
	}
}
