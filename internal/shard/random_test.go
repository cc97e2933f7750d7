package shard

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/replication"
	"whale/internal/replication/chain"
	"whale/internal/replication/whale"
)

// register is one key: set and get, with outcomes that may be unknown. A value that begins with "t" has a deadline: it may
// go at any time, but then it is gone.
type registerOp struct {
	write bool
	value string // written; read: the answer
}

var register = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Metadata.(string)
			by[k] = append(by[k], op)
		}
		var parts [][]porcupine.Operation
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		op := in.(registerOp)
		if op.write {
			return true, op.value
		}
		if out.(string) == "" && strings.HasPrefix(state.(string), "t") {
			return true, ""
		}
		return out.(string) == state.(string), state
	},
}

// walk runs a random schedule: commands at random members, operations landing in any order that RDMA allows, restarts. It
// returns what is wrong with the history or the memories, or "".
func walk(t *testing.T, seed uint64, core whale.Fault, engine Fault) string {
	return walkWith(t, newSimRig(t, 3, core, engine, simfab.Options{Relaxed: seed%2 == 1}), seed)
}

func walkWith(t *testing.T, s *simRig, seed uint64) string {
	rng := rand.New(rand.NewPCG(seed, 7))
	s.form()
	type call struct {
		q      *request
		op     registerOp
		key    string
		start  int64
		client int
	}
	var open []*call
	var history []porcupine.Operation
	clock := int64(0)
	finish := func() {
		kept := open[:0]
		for _, c := range open {
			if !c.q.done {
				kept = append(kept, c)
				continue
			}
			clock++
			reply := string(c.q.W.Buf)
			op := porcupine.Operation{ClientId: c.client, Input: c.op, Call: c.start, Return: clock, Metadata: c.key}
			switch {
			case strings.HasPrefix(reply, "-TIMEOUT not executed"), strings.HasPrefix(reply, "-TIMEOUT the read"):
				continue
			case strings.HasPrefix(reply, "-TIMEOUT"):
				if !c.op.write {
					continue
				}
				op.Return = 1 << 60 // at any time from here on, or never
			case strings.HasPrefix(reply, "-"):
				t.Fatalf("seed %d: %s", seed, reply)
			case !c.op.write:
				_, body, _ := strings.Cut(reply, "\r\n")
				op.Output = strings.TrimSuffix(body, "\r\n")
			}
			history = append(history, op)
		}
		open = kept
	}
	violation := ""
	for i := range 600 {
		switch m := s.members[rng.IntN(3)]; {
		case rng.IntN(3) == 0 && m.e != nil && len(open) < 6:
			c := &call{key: fmt.Sprintf("k%d", rng.IntN(2)), client: i}
			clock++
			c.start = clock
			if rng.IntN(2) == 0 {
				// Values on both sides of the direct limit; each unique.
				c.op = registerOp{write: true, value: fmt.Sprintf("v%d.", i) + strings.Repeat("x", rng.IntN(2)*1000)}
				switch client := (&command.Client{}); rng.IntN(4) {
				case 0:
					c.op.value = "t" + c.op.value
					c.q = newRequest(client, "set", c.key, c.op.value, "px", fmt.Sprint(1+rng.IntN(60)))
				case 1:
					c.q = newRequest(client, "exec")
					c.q.Multi = s.transaction(client, []string{"get", c.key, ";", "set", c.key, c.op.value})
				default:
					c.q = newRequest(client, "set", c.key, c.op.value)
				}
			} else {
				c.q = newRequest(&command.Client{}, "get", c.key)
			}
			s.issue(m, c.q)
			open = append(open, c)
		case rng.IntN(150) == 0 && m.e != nil:
			s.crash(m) // what clients had asked of it gets no answer any more
			s.boot(m.id)
		default:
			s.net.Step(rng)
		}
		if rng.IntN(4) == 0 {
			s.wall[rng.IntN(3)] += rng.Int64N(30) // no two clocks agree
		}
		if rng.IntN(2) == 0 {
			m := s.members[rng.IntN(3)]
			s.now += 1000
			m.e.Step(s.now)
			s.redial()
		}
		finish()
		if v := s.check(); v != "" && violation == "" {
			violation = v
		}
	}
	s.net.Auto(true)
	for range 50 {
		s.now += 200e6
		s.step()
		s.redial()
	}
	finish()
	for _, c := range open { // the process that they were asked of is gone
		if c.op.write {
			history = append(history, porcupine.Operation{ClientId: c.client, Input: c.op, Call: c.start, Return: 1 << 60, Metadata: c.key})
		}
	}
	if violation == "" {
		violation = s.check()
	}
	if violation == "" && porcupine.CheckOperationsTimeout(register, history, 20*time.Second) == porcupine.Illegal {
		violation = fmt.Sprintf("not linearizable: %d operations", len(history))
	}
	for _, m := range s.members {
		if violation == "" && !m.e.Status().Serving {
			violation = fmt.Sprintf("%s does not serve although nothing fails any more: %+v", m.name, m.e.Status())
		}
	}
	return violation
}

var seeds = flag.Uint64("seeds", 150, "random schedules to run; a tenth of them with -short: they are of one goroutine, and nothing for the race detector")

func schedules() uint64 {
	if testing.Short() {
		return *seeds / 10
	}
	return *seeds
}

func TestRandomSchedules(t *testing.T) {
	for seed := range schedules() {
		if v := walk(t, seed, whale.FaultNone, FaultNone); v != "" {
			t.Fatalf("seed %d: %s", seed, v)
		}
	}
}

func TestRandomSchedulesOfChain(t *testing.T) {
	for seed := range schedules() / 2 {
		s := newProtocolRig(t, true, 3, replication.Mirror, 1, 0, 0, simfab.Options{Relaxed: seed%2 == 1})
		if v := walkWith(t, s, seed); v != "" {
			t.Fatalf("seed %d: %s", seed, v)
		}
	}
	for seed := range uint64(300) {
		s := newProtocolRig(t, true, 3, replication.Mirror, 1, 0, 0, simfab.Options{})
		s.chainFault = chain.FaultHeadCommits
		for i := range s.members { // with the fault from the start
			s.crash(s.members[i])
			s.boot(i)
		}
		if v := walkWith(t, s, seed); v != "" {
			t.Logf("the broken variant is found by seed %d: %s", seed, v)
			return
		}
	}
	t.Fatal("300 seeds do not find that the head commits alone")
}

func TestRandomSchedulesCatchBrokenVariants(t *testing.T) {
	for _, f := range []struct {
		name   string
		core   whale.Fault
		engine Fault
	}{
		{"early commit", whale.FaultEarlyCommit, FaultNone},
		{"data only", whale.FaultDataOnly, FaultNone},
		{"read unstable", whale.FaultNone, FaultReadUnstable},
		{"known S", whale.FaultNone, FaultKnownS},
		{"own clock", whale.FaultNone, FaultOwnClock},
	} {
		t.Run(f.name, func(t *testing.T) {
			for seed := range uint64(300) {
				if v := walk(t, seed, f.core, f.engine); v != "" {
					t.Logf("found by seed %d: %s", seed, v)
					return
				}
			}
			t.Fatal("300 seeds do not find it")
		})
	}
}
