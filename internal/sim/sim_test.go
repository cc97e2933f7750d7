package sim

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

var seeds = flag.Uint64("seeds", 100, "seeds to run")

func TestSeeds(t *testing.T) {
	p := &pool{}
	ops, events := 0, uint64(0)
	bad := 0
	from := uint64(0)
	if s := os.Getenv("SEED"); s != "" {
		from, _ = strconv.ParseUint(s, 10, 64)
	}
	for seed := from; seed < from+*seeds; seed++ {
		o := Options{Faults: DefaultFaults()}
		if os.Getenv("TRACE") != "" {
			f, _ := os.Create(os.Getenv("TRACE"))
			o.Trace = f
		}
		r, err := simulate(seed, &o, p)
		if err != nil {
			t.Fatal(err)
		}
		ops += r.Operations
		events += r.Events
		if r.Violation != nil {
			t.Errorf("seed %d: %v\n%+v", seed, r.Violation, r.Cluster)
			for _, f := range r.Faults {
				t.Logf("%+v", f)
			}
			if bad++; bad > 1 {
				break
			}
		}
	}
	t.Logf("%d operations, %d events", ops, events)
}
