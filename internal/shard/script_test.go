package shard

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"whale/fabric/simfab"
	"whale/internal/command"
	"whale/internal/plog"
	"whale/internal/replication"
	"whale/internal/replication/whale"
	"whale/internal/resp"
)

// The scripts in testdata read as stories. A line of a story is one of
//
//	P: a = set k v            client a asks P; "a =" is its name and, up to a digit, its connection's
//	P: a = exec incr k ; get k   a transaction; "a = watch k" answers with the stamp that the node would keep
//	P: a = set k x*4096       the same with a value of 4096 x
//	deliver P->B1 [slots]     what is on that way arrives: all, or slots, data, flush, control, message, readS, readBytes
//	first B1->B2 data         of that, the first operation arrives
//	deliver all               everything arrives, and what follows from it, until nothing is on the way
//	pending                   what is on the way
//	where                     what of P's last record is at each member, and whether it is durable there
//	tick 100ms                time passes
//	pass 350ms                time passes in small steps, and whatever is under way arrives
//	wall B1 1000              a member's wall clock shows 1000 ms; all begin at 0
//	timers                    when the members have to be stepped although nothing arrives
//	crash B1, restart B1      the process ends; starts again from its memory, and is connected
//	poke B1 S 1 2            a word of an old epoch lands: S of epoch 1 is 2
//	give B1 1 300ms           an answer of epoch 1 to what B1 asked P last lands: a lease of 300 ms
//	break B1 P                a connection is lost; "connect B1 P" makes a new one
//	form                      everything arrives until all serve
//	cut B1, heal B1           nothing gets through to B1 and from it any more; what waited arrives
//	hold B1->P, release B1->P the same in one direction
//	coordinator deaf          nothing gets through to it any more; mute: nothing that it answers; well
//	record                    the view record
//	leases                    how long each member may answer reads, and what it has promised the others, in ms
//
// After each line the members run until nothing moves, and the answers that came are shown.

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		var s *simRig
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "cluster":
				s = newScriptRig(t, d, whale.FaultNone, FaultNone)
				return "all serve\n"
			case "story":
				return s.tell(d.Input)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// newScriptRig is "cluster [members=3] [policy=mirror] [mirrors=1] [protocol=whale] [lease=0 patience=0]", the latter in ms.
func newScriptRig(t *testing.T, d *datadriven.TestData, core whale.Fault, engine Fault) *simRig {
	members, policy, mirrors := 3, "mirror", 1
	d.MaybeScanArgs(t, "members", &members)
	d.MaybeScanArgs(t, "policy", &policy)
	d.MaybeScanArgs(t, "mirrors", &mirrors)
	p, err := replication.ParsePolicy(policy)
	if err != nil {
		t.Fatal(err)
	}
	protocol := "whale"
	d.MaybeScanArgs(t, "protocol", &protocol)
	var lease, patience int
	d.MaybeScanArgs(t, "lease", &lease)
	d.MaybeScanArgs(t, "patience", &patience)
	elastic := Elastic{Lease: time.Duration(lease) * time.Millisecond, Patience: time.Duration(patience) * time.Millisecond}
	s := newElasticRig(t, elastic, protocol == "chain", members, p, mirrors, core, engine, simfab.Options{})
	s.form()
	s.story.Reset()
	return s
}

// tell runs the lines of a story and returns what happened.
func (s *simRig) tell(lines string) string {
	s.story.Reset()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		fmt.Fprintf(&s.story, "> %s\n", line)
		s.line(strings.Fields(line))
		s.step()
		s.answers()
		if v := s.check(); v != "" {
			fmt.Fprintf(&s.story, "VIOLATION %s\n", v)
		}
	}
	return s.story.String()
}

func (s *simRig) line(w []string) {
	switch {
	case len(w) > 3 && strings.HasSuffix(w[0], ":") && w[2] == "=":
		s.ask(s.member(strings.TrimSuffix(w[0], ":")), w[1], w[3:])
	case w[0] == "deliver" && w[1] == "all":
		for s.net.DeliverAll() > 0 || s.step() {
		}
	case w[0] == "deliver":
		from, to, _ := strings.Cut(w[1], "->")
		region := ""
		if len(w) > 2 {
			region = w[2]
		}
		if s.deliver(from, to, region) == 0 {
			s.story.WriteString("nothing to deliver\n")
		}
	case w[0] == "first":
		from, to, _ := strings.Cut(w[1], "->")
		for _, e := range s.net.Pending() {
			if e.From == from && e.To == to && s.region(e) == w[2] {
				if err := s.net.Deliver(e); err != nil {
					s.t.Fatal(err)
				}
				break
			}
		}
	case w[0] == "where":
		s.story.WriteString(s.where())
	case w[0] == "pending":
		s.story.WriteString(s.pending())
	case w[0] == "tick":
		var ms int64
		fmt.Sscanf(w[1], "%dms", &ms)
		s.now += ms * 1e6
	case w[0] == "pass":
		var ms int64
		fmt.Sscanf(w[1], "%dms", &ms)
		for ; ms > 0; ms -= 10 {
			s.now += 10e6
			for s.step() || s.net.DeliverAll() > 0 {
			}
		}
	case w[0] == "give":
		var epoch uint32
		var ms int64
		fmt.Sscan(w[2], &epoch)
		fmt.Sscanf(w[3], "%dms", &ms)
		e := s.member(w[1]).e
		e.leaseGiven(0, epoch, e.leases[0].asked, ms*1e6)
	case w[0] == "wall":
		if _, err := fmt.Sscan(w[2], &s.wall[s.member(w[1]).id]); err != nil {
			s.t.Fatal(err)
		}
	case w[0] == "timers":
		for _, m := range s.members {
			if at := m.e.Wake(); m.e != nil && at != 0 {
				fmt.Fprintf(&s.story, "  %s in %d ms\n", m.name, max(at-s.now, 0)/1e6)
			}
		}
	case w[0] == "crash":
		s.crash(s.member(w[1]))
	case w[0] == "restart":
		s.boot(s.member(w[1]).id)
	case w[0] == "wipe":
		m := s.member(w[1])
		clear(m.mem.Bytes())
		if err := plog.Format(m.mem, s.geo, plog.Identity{Member: uint32(m.id)}); err != nil {
			s.t.Fatal(err)
		}
	case w[0] == "break":
		s.net.Break(w[1], w[2])
	case w[0] == "connect":
		s.connect(s.member(w[1]), s.member(w[2]))
	case w[0] == "form":
		s.form()
	case w[0] == "cut", w[0] == "heal":
		for _, m := range s.members {
			if m.name == w[1] {
				continue
			}
			for _, way := range [][2]string{{m.name, w[1]}, {w[1], m.name}} {
				if w[0] == "cut" {
					s.net.Hold(way[0], way[1])
				} else {
					s.net.Release(way[0], way[1])
				}
			}
		}
	case w[0] == "coordinator":
		s.deaf, s.mute = w[1] == "deaf", w[1] == "mute"
	case w[0] == "hold", w[0] == "release":
		from, to, _ := strings.Cut(w[1], "->")
		if w[0] == "hold" {
			s.net.Hold(from, to)
		} else {
			s.net.Release(from, to)
		}
	case w[0] == "record":
		v, _ := s.coord.Read(s.t.Context())
		fmt.Fprintf(&s.story, "  epoch %d, active %v, members %v, in sync %v\n", v.Epoch, v.Active(), v.Members, v.InSync)
	case w[0] == "leases":
		for _, m := range s.members {
			if m.e != nil {
				fmt.Fprintf(&s.story, "  %s %s\n", m.name, s.leases(m.e))
			}
		}
	case w[0] == "poke":
		var epoch uint32
		var seq uint64
		fmt.Sscan(w[3], &epoch)
		fmt.Sscan(w[4], &seq)
		s.member(w[1]).log.Control().SetS(plog.Word(epoch, seq))
	case w[0] == "show":
		for _, m := range s.members {
			if m.e != nil {
				st := m.e.Status()
				fmt.Fprintf(&s.story, "  %s epoch %d serving %v end %d stable %d drained %d installed %d\n", m.name, st.Epoch, st.Serving, st.End, st.Stable, st.Drained, st.Installed)
			}
		}
	default:
		s.t.Fatalf("a story has no line %q", strings.Join(w, " "))
	}
}

// leases tells what a member holds and has promised.
func (s *simRig) leases(e *Engine) string {
	left := func(end int64) string {
		if end == forever {
			return "for ever"
		}
		return fmt.Sprintf("%d ms", max(end-s.now, 0)/1e6)
	}
	text := "may read: " + left(e.until.Load()) + "; promised:"
	for i := range e.leases {
		if i != e.cfg.Self && e.leases[i].promised > s.now {
			text += fmt.Sprintf(" %s %s", s.members[i].name, left(e.leases[i].promised))
		}
	}
	return text
}

func (s *simRig) ask(m *member, name string, args []string) {
	conn := strings.TrimRight(name, "0123456789")
	if s.clients[conn] == nil {
		s.clients[conn] = &command.Client{}
	}
	for i, a := range args {
		if c, n, ok := strings.Cut(a, "*"); ok && len(c) == 1 { // x*4096
			k, err := strconv.Atoi(n)
			if err != nil {
				s.t.Fatal(err)
			}
			args[i] = strings.Repeat(c, k)
		}
	}
	client := s.clients[conn]
	var multi *command.Transaction
	if args[0] == "exec" {
		multi = s.transaction(client, args[1:])
		args = args[:1]
	}
	q := newRequest(client, args...)
	q.Multi = multi
	if args[0] == "watch" {
		q.watch = client.Watch(q.Args[1:])
	}
	s.asked[name] = q
	s.names = append(s.names, name)
	s.issue(m, q)
}

// transaction queues commands as the client's node would.
func (s *simRig) transaction(client *command.Client, words []string) *command.Transaction {
	queue := func(args ...string) {
		q := newRequest(client, args...)
		if !client.Queue(q.Cmd, q.Args, func() *resp.Writer { return &q.W }) {
			q.Cmd.Run(&command.Ctx{Args: q.Args, W: &q.W, Client: client})
		}
	}
	queue("multi")
	for _, line := range strings.Split(strings.Join(words, " "), ";") {
		queue(strings.Fields(line)...)
	}
	t, text := client.Exec()
	if text != "" {
		s.t.Fatal(text)
	}
	return t
}

// answers shows the replies that have come.
func (s *simRig) answers() {
	for _, name := range s.names {
		if q := s.asked[name]; q.done && !s.shown[name] {
			s.shown[name] = true
			if w := q.watch; w != nil {
				fmt.Sscanf(string(q.W.Buf), ":%d", &w.Stamp)
			}
			reply := strings.TrimSuffix(string(q.W.Buf), "\r\n")
			if len(reply) > 200 && reply[0] == '$' {
				reply = fmt.Sprintf("%d bytes, the last is %c", len(reply), reply[len(reply)-1])
			}
			fmt.Fprintf(&s.story, "%s: %s\n", name, strings.ReplaceAll(reply, "\r\n", " "))
		}
	}
}

// TestScriptsCatchBrokenVariants tells each story to a cluster that breaks the rule which the story is about: it must not
// end as it should.
func TestScriptsCatchBrokenVariants(t *testing.T) {
	for _, v := range []struct {
		script string
		core   whale.Fault
		engine Fault
	}{
		{"trap01_completion_is_not_visibility", whale.FaultEarlyCommit, FaultNone},
		{"trap02_data_is_not_metadata", whale.FaultDataOnly, FaultNone},
		{"trap02_data_is_not_metadata", whale.FaultNone, FaultKnownS},
		{"trap03_primary_reads_stable", whale.FaultNone, FaultReadUnstable},
		{"trap08_replies_that_reveal", whale.FaultNone, FaultNoGate},
		{"trap08_transactions", whale.FaultNone, FaultNoGate},
		{"expiry", whale.FaultNone, FaultOwnClock},
		{"policies", whale.FaultVisibleSlots, FaultNone},
		{"trap11_words_of_another_epoch", whale.FaultNone, FaultAnyEpoch},
		{"trap05_an_expelled_member", whale.FaultNone, FaultNoLeaseAside},
		{"trap05_an_expelled_member", whale.FaultNone, FaultNoLeaseWait},
		{"trap05_an_expelled_member", whale.FaultNone, FaultRenewExpelled},
		{"trap11_leases_of_another_epoch", whale.FaultNone, FaultAnyLease},
		{"elastic_restart_of_p", whale.FaultNone, FaultForgetPromises},
		{"stuck_forwarder", whale.FaultNone, FaultFetchLate},
	} {
		t.Run(fmt.Sprintf("%s core=%d engine=%d", v.script, v.core, v.engine), func(t *testing.T) {
			good, bad := playScript(t, v.script, whale.FaultNone, FaultNone), playScript(t, v.script, v.core, v.engine)
			if strings.Contains(good, "VIOLATION") {
				t.Fatalf("the rule-abiding cluster violates an invariant:\n%s", good)
			}
			if good == bad {
				t.Fatalf("the broken variant tells the same story:\n%s", bad)
			}
		})
	}
}

// playScript tells the stories of a script without comparing them with what they should be.
func playScript(t *testing.T, script string, core whale.Fault, engine Fault) string {
	b, err := os.ReadFile(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	var s *simRig
	datadriven.RunTestFromString(t, string(b), func(t *testing.T, d *datadriven.TestData) string {
		if d.Cmd == "cluster" {
			s = newScriptRig(t, d, core, engine)
			return d.Expected
		}
		told.WriteString(s.tell(d.Input))
		return d.Expected
	})
	return told.String()
}
