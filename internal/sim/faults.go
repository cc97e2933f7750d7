package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"whale/internal/replication"
)

// Faults say what goes wrong. Each rate is how often that happens in 1000 operations of clients, on average over many
// seeds: a seed has a kind of fault much more often, or never.
type Faults struct {
	Crash  float64 `json:"crash"`  // a process ends, often in the middle of what it does, and starts again
	Power  float64 `json:"power"`  // a machine loses its power: its memory keeps what the crash model lets it
	Outage float64 `json:"outage"` // all machines do, at once
	Pause  float64 `json:"pause"`  // a process stops for a while; the network reaches its memory all the same
	Cut    float64 `json:"cut"`    // nothing passes between two members, or one and all others, or in one direction only
	Slow   float64 `json:"slow"`   // a way takes a hundred times as long
	Break  float64 `json:"break"`  // a connection is lost
	Damage float64 `json:"damage"` // a bit of the memory of a process that does not run is turned around
	Wipe   float64 `json:"wipe"`   // a member comes back with an empty memory; P only where the others hold all of it
	Clock  float64 `json:"clock"`  // a member's wall clock is set
	Stall  float64 `json:"stall"`  // a write stays in the middle, and often the process that makes it with it
	Drift  float64 `json:"drift"`  // by how many parts in a million the members' clocks may run too fast or too slow
	// Coordinator is how often it cannot be reached, gives no answers, or is slow; where views are elastic.
	Coordinator float64 `json:"coordinator"`
	// Bound is the drift that members count on, in parts in a million; 0: the one that there is. Where it is less than
	// Drift leases do not hold what they promise.
	Bound float64 `json:"bound,omitempty"`

	// Schedule, if there is one, is exactly what happens, in place of what the rates would bring.
	Schedule []Fault `json:"schedule,omitempty"`
	// Cluster, if there is one, is the cluster that it happens to, in place of one that the seed draws.
	Cluster *Cluster `json:"cluster,omitempty"`
}

// Fault is one event of a schedule.
type Fault struct {
	Kind    string   `json:"kind"`              // the name of a rate of Faults, drift aside
	After   int      `json:"after"`             // how many operations have begun by then
	Delay   Duration `json:"delay,omitempty"`   // how much later still
	For     Duration `json:"for,omitempty"`     // how long it lasts: until the process starts again, the way is open again
	Members []int    `json:"members,omitempty"` // whom it strikes: one, or the two ends of a way, who writes first; cut: a single one loses all its ways
	OneWay  bool     `json:"one-way,omitempty"` // cut: from the first to the second alone
	Seed    uint64   `json:"seed,omitempty"`    // of what chance decides inside it: what memory is left, which bit, which clock
}

// Duration is written as 1.5ms.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is no duration: write it as 500us or 1.5ms", text)
	}
	*d = Duration(v)
	return nil
}

// Cluster is what a run simulates.
type Cluster struct {
	Members    int      `json:"members"`
	Protocol   string   `json:"protocol"` // whale or chain
	Policy     string   `json:"policy"`   // mirror, metadata or all
	Mirrors    int      `json:"mirrors"`
	Segments   int      `json:"segments"` // of 64 KiB: the arena
	Clients    int      `json:"clients"`
	Operations int      `json:"operations"` // of all clients together
	Latency    Duration `json:"latency"`    // of a way, on average
	Think      Duration `json:"think"`      // what a client waits between operations, on average
	Late       bool     `json:"late"`       // a write completes some time before it lands, not at once
	Relaxed    bool     `json:"relaxed"`    // writes of one connection land in any order, word by word
	InOrder    bool     `json:"in-order"`   // all that is under way on a connection lands at once, in order: a kind network
	Queue      int      `json:"queue"`      // requests that may wait at a member to be executed; 0: very many
	Background bool     `json:"background"` // keys are withdrawn in the background: who does it has to ask again
	// Lease is how long one lasts; with one, views lose members and take them back. 0: the view always has all members.
	Lease    Duration `json:"lease,omitempty"`
	Patience Duration `json:"patience,omitempty"` // how long P waits for a member before it goes on without it
}

// DefaultFaults are moderate rates of everything that a correct cluster must survive.
func DefaultFaults() Faults {
	return Faults{Crash: 8, Power: 6, Outage: 1, Pause: 6, Cut: 6, Slow: 4, Break: 6, Damage: 1.5, Wipe: 1, Clock: 3, Stall: 6, Drift: 200, Coordinator: 6}
}

// rates are the kinds that a schedule is drawn from, in a fixed order.
func (f *Faults) rates() []struct {
	kind string
	rate float64
} {
	return []struct {
		kind string
		rate float64
	}{
		{"crash", f.Crash}, {"power", f.Power}, {"outage", f.Outage}, {"pause", f.Pause}, {"cut", f.Cut}, {"slow", f.Slow},
		{"break", f.Break}, {"damage", f.Damage}, {"wipe", f.Wipe}, {"clock", f.Clock}, {"stall", f.Stall},
		{"coordinator", f.Coordinator},
	}
}

func (f *Faults) kinds() (names []string) {
	for _, r := range f.rates() {
		names = append(names, r.kind)
	}
	return names
}

const (
	maxRate  = 1000
	maxDrift = 500_000
)

// Validate names what is out of its bounds.
func (f *Faults) Validate() error {
	for _, r := range f.rates() {
		if !(r.rate >= 0 && r.rate <= maxRate) {
			return fmt.Errorf("the rate of %s is %v: it must be from 0 to %d, in 1000 operations", r.kind, r.rate, maxRate)
		}
	}
	if !(f.Drift >= 0 && f.Drift <= maxDrift) {
		return fmt.Errorf("the drift is %v: it must be from 0 to %d parts in a million", f.Drift, maxDrift)
	}
	if !(f.Bound >= 0 && f.Bound <= maxDrift) {
		return fmt.Errorf("the bound on drift is %v: it must be from 0 to %d parts in a million; 0 is the drift itself", f.Bound, maxDrift)
	}
	members := replicaLimit
	if f.Cluster != nil {
		if err := f.Cluster.Validate(); err != nil {
			return err
		}
		members = f.Cluster.Members
	}
	for i := range f.Schedule {
		if err := f.Schedule[i].validate(f.kinds(), members); err != nil {
			return fmt.Errorf("schedule, event %d: %w", i+1, err)
		}
	}
	return nil
}

func (e *Fault) validate(kinds []string, members int) error {
	if !slices.Contains(kinds, e.Kind) {
		return fmt.Errorf("unknown kind %q: there are %s", e.Kind, strings.Join(kinds, ", "))
	}
	least, most := 1, 1
	switch e.Kind {
	case "outage", "coordinator":
		least, most = 0, 0
	case "cut":
		most = 2
	case "slow", "break", "stall":
		least, most = 2, 2
	}
	if n := len(e.Members); n < least || n > most {
		return fmt.Errorf("%s of %d members: it takes %d to %d", e.Kind, n, least, most)
	}
	for i, m := range e.Members {
		if m < 0 || m >= members {
			return fmt.Errorf("%s: member %d, there are 0 to %d", e.Kind, m, members-1)
		}
		if slices.Contains(e.Members[:i], m) {
			return fmt.Errorf("%s: member %d twice", e.Kind, m)
		}
	}
	switch {
	case e.OneWay && len(e.Members) != 2:
		return errors.New("one-way takes two members")
	case e.After < 0 || e.Delay < 0 || e.For < 0:
		return errors.New("after, delay and for cannot be negative")
	case e.For > Duration(time.Minute) || e.Delay > Duration(time.Minute):
		return errors.New("delay and for are at most 1m")
	}
	return nil
}

const replicaLimit = 7 // members of a simulated cluster

// Validate names what is out of its bounds.
func (c *Cluster) Validate() error {
	between := func(name string, v, lo, hi int) error {
		if v < lo || v > hi {
			return fmt.Errorf("cluster: %s is %d: it must be from %d to %d", name, v, lo, hi)
		}
		return nil
	}
	policy, perr := replication.ParsePolicy(c.Policy)
	_ = policy
	var protocol error
	if c.Protocol != "whale" && c.Protocol != "chain" {
		protocol = fmt.Errorf("cluster: unknown protocol %q: it is whale or chain", c.Protocol)
	}
	if perr != nil {
		perr = fmt.Errorf("cluster: %w", perr)
	}
	var durations error
	if c.Latency < Duration(100) || c.Latency > Duration(time.Second) || c.Think < 0 || c.Think > Duration(time.Second) {
		durations = errors.New("cluster: latency must be from 100ns to 1s, think from 0s to 1s")
	}
	var leases error
	if c.Lease < 0 || c.Patience < 0 || (c.Lease == 0) != (c.Patience == 0) ||
		c.Lease != 0 && (min(c.Lease, c.Patience) < Duration(time.Millisecond) || max(c.Lease, c.Patience) > Duration(10*time.Second)) {
		leases = errors.New("cluster: lease and patience must be from 1ms to 10s, or both 0, for a view that always has all members")
	}
	return errors.Join(
		between("members", c.Members, 1, replicaLimit), protocol, perr,
		between("mirrors", c.Mirrors, 1, replicaLimit), between("segments", c.Segments, 2, 1024),
		between("clients", c.Clients, 1, 1000), between("queue", c.Queue, 0, queueLimit), between("operations", c.Operations, 0, 10_000_000), durations, leases)
}

// ReadFaults reads Faults as JSON: what the file does not name keeps the value of [DefaultFaults], unless it has a
// schedule, which is all that happens then.
func ReadFaults(r io.Reader) (Faults, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return Faults{}, err
	}
	f := DefaultFaults()
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return Faults{}, fmt.Errorf("line %d: %w", 1+bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n")), err)
		}
		if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
			return Faults{}, fmt.Errorf("unknown field %s: faults are %s, drift and bound; besides there are schedule and cluster", name, strings.Join(f.kinds(), ", "))
		}
		return Faults{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return Faults{}, errors.New("something follows the closing brace")
	}
	return f, f.Validate()
}

// drawCluster is what a seed simulates, unless it is told.
func drawCluster(rng *rand.Rand) *Cluster {
	c := &Cluster{Members: 3, Protocol: "whale", Policy: "mirror", Mirrors: 1, Segments: 4, Operations: 400}
	switch rng.IntN(10) {
	case 0:
		c.Members = 2
	case 1:
		c.Members = 4
	case 2:
		c.Members = 5
	}
	switch rng.IntN(10) {
	case 0:
		c.Policy = "metadata"
	case 1:
		c.Policy = "all"
	case 2:
		c.Mirrors = min(2, c.Members-1)
	case 3:
		c.Protocol = "chain"
	}
	if rng.IntN(8) == 0 {
		c.Segments = 2
	}
	c.Clients = 2 + rng.IntN(7)
	c.Latency = Duration(1000 << rng.IntN(7))
	c.Think = Duration(200 << rng.IntN(10))
	c.Late = rng.IntN(2) == 0
	c.Relaxed = rng.IntN(2) == 0
	c.Background = rng.IntN(4) == 0
	if rng.IntN(6) == 0 {
		c.Queue = 1 + rng.IntN(6)
	}
	return c
}

// draw makes a schedule from the rates. A seed takes each kind with a chance of a third, and three times as often.
func (f *Faults) draw(rng *rand.Rand, c *Cluster) (events []Fault) {
	for _, r := range f.rates() {
		mean := 3 * r.rate * float64(c.Operations) / 1000
		count := 0
		if rng.IntN(3) == 0 {
			for ; mean > 0; mean-- {
				if mean >= 1 || rng.Float64() < mean {
					count += 1 + rng.IntN(2) - rng.IntN(2)
				}
			}
		}
		for range count {
			e := Fault{Kind: r.kind, After: rng.IntN(c.Operations + 1), Delay: Duration(rng.Int64N(4 * int64(c.Latency))), Seed: rng.Uint64()}
			// From a moment to longer than the commands' time limit.
			e.For = Duration(int64(c.Latency) << rng.IntN(6) * (1 + rng.Int64N(16)))
			if rng.IntN(8) == 0 {
				e.For = Duration(commandTimeout/2 + rng.Int64N(2*commandTimeout))
			}
			if !e.aim(rng, c) {
				continue
			}
			events = append(events, e)
		}
	}
	slices.SortStableFunc(events, func(a, b Fault) int { return a.After - b.After })
	return events
}

// aim chooses whom it strikes. False: there is nobody.
func (e *Fault) aim(rng *rand.Rand, c *Cluster) bool {
	a := rng.IntN(c.Members)
	b := (a + 1 + rng.IntN(max(1, c.Members-1))) % c.Members
	switch e.Kind {
	case "outage":
		return true
	case "stall":
		if c.Members > 2 && rng.IntN(4) > 0 { // the way that members forward on
			a = 1 + rng.IntN(c.Members-2)
			b = a + 1
		}
		e.Members = []int{a, b}
		return a != b
	case "coordinator":
		return c.Lease != 0
	case "slow", "break":
		e.Members = []int{a, b}
		return a != b
	case "cut":
		e.Members = []int{a, b}
		if e.OneWay = rng.IntN(3) == 0; !e.OneWay && rng.IntN(2) == 0 {
			e.Members = []int{a}
		}
		return a != b
	}
	e.Members = []int{a}
	return true
}
