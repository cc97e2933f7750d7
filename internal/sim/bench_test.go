package sim

import "testing"

// How many operations of clients a simulated cluster of three nodes does in a second of real time, on one processor.
func BenchmarkSimulation(b *testing.B) {
	bench := func(b *testing.B, o Options) {
		p := &pool{}
		ops := 0
		for seed := uint64(0); b.Loop(); seed++ {
			res, err := simulate(seed, &o, p)
			if err != nil || res.Violation != nil {
				b.Fatal(err, res.Violation)
			}
			ops += res.Operations
		}
		b.ReportMetric(float64(ops)/b.Elapsed().Seconds(), "op/s")
	}
	three := Cluster{Members: 3, Protocol: "whale", Policy: "mirror", Mirrors: 1, Segments: 64, Clients: 32, Operations: 20_000, Latency: 2000, Think: 1000, InOrder: true}
	b.Run("plain", func(b *testing.B) { bench(b, Options{NoChecks: true, Faults: Faults{Cluster: &three}}) })
	checked := three
	checked.InOrder, checked.Relaxed, checked.Operations, checked.Segments, checked.Clients = false, true, 2000, 8, 8
	b.Run("checked", func(b *testing.B) { bench(b, Options{Faults: Faults{Cluster: &checked}}) })
	b.Run("checked, faults", func(b *testing.B) { bench(b, Options{Faults: DefaultFaults()}) })
}
