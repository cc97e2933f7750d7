package timing

import (
	"math"
	"math/rand/v2"
	"slices"
)

// dice draws what varies.
type dice struct {
	rng    *rand.Rand
	factor [1024]float64 // quantiles of a round trip in medians; a log-normal law whose 99th percentile is the parameter
	varies bool
}

func newDice(t Tail, seed uint64) dice {
	d := dice{rng: rand.New(rand.NewPCG(seed, 0x74696d696e67)), varies: t.P99 > 1}
	const z99 = 2.3263478740408408
	sigma := math.Log(t.P99) / z99
	for i := range d.factor {
		z := math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/float64(len(d.factor))-1)
		d.factor[i] = math.Exp(sigma * z)
	}
	slices.Sort(d.factor[:])
	return d
}

// extra is by how much a request is late, or early, when its round trip takes the time given in the median.
func (d *dice) extra(roundTrip ps) ps {
	if !d.varies {
		return 0
	}
	return ps((d.factor[d.rng.Uint64()&1023] - 1) * float64(roundTrip))
}

// stall is for how long a thread that handles a message is kept from it.
func (d *dice) stall(c *costs) ps {
	if c.stall == 0 || d.rng.Float64() >= c.stall {
		return 0
	}
	return ps((c.stallMin + d.rng.Float64()*(c.stallMax-c.stallMin)) * 1000)
}
