package command

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Notes are what a node keeps about the commands that it answered.
type Notes struct {
	Slow    SlowLog
	Latency Events
	Times   []Times // one set for each goroutine that counts
}

// Times are histograms of how long commands took, by [Command.Index]. One goroutine adds, any may read.
type Times []Histogram

// NewTimes has room for every command.
func NewTimes() Times { return make(Times, len(all)) }

// Buckets of a [Histogram]: bucket i counts what took at most 2^i microseconds, and more than the one before; the last
// one what took longer than all.
const Buckets = 26

// Histogram counts durations in buckets of powers of two: coarse, and cheap enough to count everything.
type Histogram struct {
	counts [Buckets]atomic.Uint64
	micros atomic.Uint64
}

// Add counts n commands that took so many microseconds each.
func (h *Histogram) Add(micros int64, n uint64) {
	us := uint64(max(micros, 0))
	h.counts[min(bits.Len64(max(us, 1)-1), Buckets-1)].Add(n)
	h.micros.Add(us * n)
}

// AddTo adds this histogram's counts to a sum.
func (h *Histogram) AddTo(counts *[Buckets]uint64, micros *uint64) {
	for i := range h.counts {
		counts[i] += h.counts[i].Load()
	}
	*micros += h.micros.Load()
}

func (h *Histogram) reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
	h.micros.Store(0)
}

// Reset sets all histograms to zero.
func (n *Notes) Reset() {
	for _, t := range n.Times {
		for i := range t {
			t[i].reset()
		}
	}
}

// Of sums a command's histograms up: how many were counted in each bucket, and how long all took together, in
// microseconds.
func (n *Notes) Of(cmd *Command) (counts [Buckets]uint64, calls, micros uint64) {
	for _, t := range n.Times {
		t[cmd.index].AddTo(&counts, &micros)
	}
	for _, c := range counts {
		calls += c
	}
	return counts, calls, micros
}

// Events are the latest times at which something took longer than latency-monitor-threshold, by kind of event. All methods
// may be called from any goroutine.
type Events struct {
	mu     sync.Mutex
	series map[string]*series
}

type series struct {
	samples []sample // oldest first, one for each second
	longest int64
}

type sample struct{ at, took int64 } // unix seconds, milliseconds

const keptSamples = 160

// Add notes that a command took so many milliseconds, at a time in unix milliseconds.
func (e *Events) Add(cmd *Command, at, took int64) {
	event := "command"
	if slices.Contains(cmd.Flags, "fast") {
		event = "fast-command"
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.series == nil {
		e.series = map[string]*series{}
	}
	s := e.series[event]
	if s == nil {
		s = &series{}
		e.series[event] = s
	}
	s.longest = max(s.longest, took)
	if n := len(s.samples); n > 0 && s.samples[n-1].at == at/1000 {
		s.samples[n-1].took = max(s.samples[n-1].took, took)
		return
	}
	if s.samples = append(s.samples, sample{at / 1000, took}); len(s.samples) > keptSamples {
		s.samples = append(s.samples[:0], s.samples[1:]...)
	}
}

var latencyCommands = []*Command{container("latency", "server", "2.8.13", "Commands about what took long on this node",
	latencySub("latest", 2, "2.8.13", "Returns the latest event of each kind: time, milliseconds, and the longest ever", latencyLatest),
	latencySub("history", 3, "2.8.13", "Returns the times and milliseconds of a kind of event", latencyHistory),
	tips(sub(adminSub, "latency|reset", -2, "2.8.13", "Forgets events, and returns of how many kinds", latencyReset), "request_policy:all_nodes response_policy:all_succeeded"),
	latencySub("doctor", 2, "2.8.13", "Says in words what was found", latencyDoctor),
	latencySub("histogram", -2, "7.0.0", "Returns how long commands took from their arrival to the reply, as cumulative counts by microseconds", latencyHistogram),
	sub(helpSub, "latency|help", 2, "2.8.13", "Lists the subcommands", help),
)}

func latencySub(name string, arity int, since, summary string, run func(*Ctx)) *Command {
	return tips(sub(adminSub, "latency|"+name, arity, since, summary, run), "nondeterministic_output request_policy:all_nodes response_policy:special")
}

func latencyLatest(c *Ctx) {
	e := &c.Server.Notes().Latency
	e.mu.Lock()
	defer e.mu.Unlock()
	c.W.Array(len(e.series))
	for _, name := range slices.Sorted(maps.Keys(e.series)) {
		s := e.series[name]
		last := s.samples[len(s.samples)-1]
		c.W.Array(4)
		c.W.BulkString(name)
		c.W.Int(last.at)
		c.W.Int(last.took)
		c.W.Int(s.longest)
	}
}

func latencyHistory(c *Ctx) {
	e := &c.Server.Notes().Latency
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.series[string(c.Args[2])]
	if s == nil {
		c.W.Array(0)
		return
	}
	c.W.Array(len(s.samples))
	for _, x := range s.samples {
		c.W.Array(2)
		c.W.Int(x.at)
		c.W.Int(x.took)
	}
}

func latencyReset(c *Ctx) {
	e := &c.Server.Notes().Latency
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.series)
	if len(c.Args) == 2 {
		clear(e.series)
	}
	for _, name := range c.Args[2:] {
		delete(e.series, string(name))
	}
	c.W.Int(int64(n - len(e.series)))
}

// latencyDoctor is in words of its own: what Redis advises is about forks and swapping.
func latencyDoctor(c *Ctx) {
	threshold, on := c.Server.Params().LatencyThreshold()
	if !on {
		c.W.Verbatim("txt", "Latency monitoring is disabled on this node. Enable it with: CONFIG SET latency-monitor-threshold <milliseconds>\n")
		return
	}
	e := &c.Server.Notes().Latency
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.series) == 0 {
		c.W.Verbatim("txt", fmt.Sprintf("No command took %d ms or longer since the monitoring was enabled, or the events were reset.\n", threshold))
		return
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(e.series)) {
		s := e.series[name]
		var sum int64
		for _, x := range s.samples {
			sum += x.took
		}
		fmt.Fprintf(&text, "%s: %d seconds with an event, %d ms in the mean, %d ms at worst.\n", name, len(s.samples), sum/int64(len(s.samples)), s.longest)
	}
	text.WriteString("SLOWLOG GET names the commands. A write waits for every member: whale status shows which one is behind, whale doctor looks at the machine.\n")
	c.W.Verbatim("txt", text.String())
}

func latencyHistogram(c *Ctx) {
	wanted := all
	if len(c.Args) > 2 {
		wanted = nil
		for _, name := range c.Args[2:] {
			if cmd := Lookup(name); cmd != nil {
				wanted = append(wanted, cmd)
			}
		}
	}
	notes := c.Server.Notes()
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(cmd *Command) bool {
		_, calls, _ := notes.Of(cmd)
		return calls == 0
	})
	c.W.Map(len(wanted))
	for _, cmd := range wanted {
		counts, calls, _ := notes.Of(cmd)
		c.W.BulkString(cmd.Name)
		c.W.Map(2)
		c.W.BulkString("calls")
		c.W.Int(int64(calls))
		c.W.BulkString("histogram_usec")
		filled := 0
		for _, n := range counts {
			if n > 0 {
				filled++
			}
		}
		c.W.Map(filled)
		sum := uint64(0)
		for i, n := range counts {
			if sum += n; n > 0 {
				c.W.Int(1 << i)
				c.W.Int(int64(sum))
			}
		}
	}
}
