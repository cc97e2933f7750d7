package shard

import (
	"errors"
	"fmt"
	"math/bits"

	"whale/fabric"
	"whale/internal/plog"
	"whale/internal/replication"
)

// A view change with a fixed primary (docs/protocol.md, "Restart" and "View change"). P leads. In a fixed view: as soon as
// all members are connected to each other and have reported, and some connection is newer than the view. Where views are
// elastic: when the coordinator has taken P's proposal (agree.go), with the members in it. P
//
//	stores it durably, stops serving and posting;          FENCE  ->  members stop, drain, revoke, store it
//	checks that nobody knows more than P's own log   <-  FENCED
//	stores the epoch's first seq; sends slots and bytes    VIEW   ->  members store the table
//	that members lack, to all directly               <-  VIEWED
//	waits until all of it is visible and durable, and
//	(elastic) until who is outside has no lease left and
//	the coordinator has taken that the view is active;
//	sets S to the log's end, serves                        ACTIVE ->  members serve
//
// Whatever breaks meanwhile begins it anew with a higher epoch. Until it is done nobody serves in the new epoch, and a
// member that P could not fence yet goes on reading in the old one, in which nothing becomes stable any more.

// report is what a member last said of itself.
type report struct {
	valid bool
	epoch uint32
	end   uint64
	links uint64

	incarnation uint64
}

// memberState is what a fenced member said; P's own is in the same table.
type memberState struct {
	epoch   uint32
	end     uint64
	drained uint64
	key     fabric.Key
	viewed  bool
}

type phase uint8

const (
	idle       phase = iota // no change is going on
	fencing                 // (backup) revoking; (P) waiting for FENCED
	revoking                // (P) all are fenced; revoking P's own key
	resending               // (P) sending what members lack, waiting for VIEWED
	activating              // (P) all is in place; waiting for the coordinator
	waiting                 // (backup) fenced, waiting for VIEW, then ACTIVE
)

// viewChange is the state of the one that is going on.
type viewChange struct {
	phase   phase
	wanted  bool // (P) something changed since the last one began
	epoch   uint32
	target  uint64        // (P) the members of the view that is being formed or stands, a bit each
	members []memberState // by number
	resend  plog.Iter
	next    uint64 // (P) the first record not yet handed to the core again
	until   int64  // when revoking counts as failed
}

func (e *Engine) primary() bool { return e.cfg.Self == 0 }

func (e *Engine) allLinks() uint64 { return 1<<len(e.links) - 1 }

// connected are the members that this one is connected to, itself included.
func (e *Engine) connected() uint64 {
	links := uint64(1) << e.cfg.Self
	for i := range e.links {
		if e.links[i].conn != nil {
			links |= 1 << i
		}
	}
	return links
}

// linksChanged follows every new and every lost connection. Those of who is outside an elastic view do not disturb it.
func (e *Engine) linksChanged(member int) {
	if e.primary() {
		if e.cfg.Elastic == nil || e.change.target>>member&1 != 0 {
			e.change.wanted = true
		}
		return
	}
	e.send(0, msgReport, e.log.Epoch(), e.log.End(), e.connected(), e.cfg.Incarnation)
}

// reported follows a member's report. One that comes while a view stands says that the member's connections changed.
func (e *Engine) reported(member int) {
	if !e.primary() {
		return
	}
	target := e.change.target
	if e.cfg.Elastic == nil || target>>member&1 != 0 && target&^e.reports[member].links != 0 {
		e.change.wanted = true
	}
}

// stepChange moves a view change on as far as it goes.
func (e *Engine) stepChange() bool {
	switch {
	case !e.primary():
	case e.cfg.Elastic != nil:
		if e.agree() {
			return true
		}
	case e.change.wanted && e.complete():
		e.lead(e.nextEpoch(), e.allLinks())
		return true
	}
	switch e.change.phase {
	case fencing:
		if !e.primary() {
			return e.revoke(e.fenced)
		}
		for i, m := range e.change.members {
			if e.others()>>i&1 != 0 && m.epoch != e.change.epoch {
				return false
			}
		}
		e.change.phase = revoking
		e.change.until = e.now + int64(e.cfg.CommandTimeout) // however long the members took
		return true
	case revoking:
		return e.revoke(e.reconcile)
	case resending:
		return e.resend()
	}
	return false
}

// complete tells whether all members are connected to all and have said so.
func (e *Engine) complete() bool {
	if e.connected() != e.allLinks() {
		return false
	}
	for i, r := range e.reports {
		if i != e.cfg.Self && (!r.valid || r.links != e.allLinks()) {
			return false
		}
	}
	return true
}

// leave ends the current view: nothing is served, and nothing of it is posted any more.
func (e *Engine) leave() {
	if e.bad != FaultServeFenced {
		e.serving.Store(0)
		e.endLeases()
	}
	e.view = nil
	e.in = replication.Input{Peers: e.in.Peers[:0], Appended: e.in.Appended[:0], Done: e.in.Done[:0], Fetch: e.in.Fetch[:0]}
	e.dirty.restart()
	e.late = lateBytes{}
	for i := range e.links {
		e.links[i].inView = false
		e.links[i].outbox = e.links[i].outbox[:0]
	}
}

// others are the members of the view besides P.
func (e *Engine) others() uint64 { return e.change.target &^ (1 << e.cfg.Self) }

// nextEpoch is one above the highest that any member reports.
func (e *Engine) nextEpoch() uint32 {
	epoch := e.log.Epoch()
	for _, r := range e.reports {
		epoch = max(epoch, r.epoch)
	}
	return epoch + 1
}

// lead begins a view change at P. The epoch is durable here first.
func (e *Engine) lead(epoch uint32, target uint64) {
	e.change.target = target
	e.change.wanted = e.cfg.Elastic != nil && target&^e.well() != 0 // somebody was lost since it was proposed
	e.leave()
	if err := e.log.SetEpoch(epoch); err != nil {
		e.stop(err)
		return
	}
	e.change.phase, e.change.epoch = fencing, epoch
	e.change.until = e.now + int64(e.cfg.CommandTimeout)
	e.change.members = make([]memberState, len(e.links))
	for i := range e.links {
		if e.others()>>i&1 != 0 {
			e.send(i, msgFence, epoch)
		}
	}
}

// fence begins at a backup what P asked for: stop serving, take in what has arrived, revoke (in stepChange, since it may
// take a moment), and report.
func (e *Engine) fence(epoch uint32) {
	if epoch <= e.log.Epoch() {
		return // of a change that was overtaken
	}
	e.st.Drain() // before the epoch's slots are refused; nobody serves between here and ACTIVE
	e.leave()
	for e.takeIn() {
	}
	e.change.phase, e.change.epoch = fencing, epoch
	e.change.until = e.now + int64(e.cfg.CommandTimeout)
}

// revoke withdraws the right that this member gave to all others; then, once nothing can land under it, goes on.
func (e *Engine) revoke(then func() error) bool {
	key := e.key
	if e.bad == FaultNoRevoke {
		key = 0
	}
	switch err := e.ep.Revoke(key); {
	case errors.Is(err, fabric.ErrInFlight) && e.bad != FaultIgnoreInFlight:
		if e.now >= e.change.until {
			e.stop(fmt.Errorf("%s could not be fenced: a peer's operation is still under way in its memory", e.name(e.cfg.Self)))
		}
		return false // asked again at the next step
	case err != nil && e.bad != FaultIgnoreInFlight:
		e.stop(fmt.Errorf("revoking the rights of epoch %d: %w", e.change.epoch-1, err))
		return false
	}
	// Nobody can write here now: the words of the old view go, before those of the new one can come.
	g := e.log.Geometry()
	e.ctl.SetS(0)
	e.ctl.SetDW(0)
	e.mem.Store64(g.Control()+replication.OffAsk, 0)
	for i := range e.links {
		e.ctl.SetPeer(i, 0, 0, 0, 0)
	}
	fresh, err := e.ep.Register(e.log.Memory(), g.Control(), g.Size()-g.Control(), peerRights)
	if err == nil {
		e.key = fresh
		err = then()
	}
	if err != nil {
		e.stop(err)
	}
	return true
}

const peerRights = fabric.RemoteRead | fabric.RemoteWrite | fabric.RemoteFlush

// fenced is the end of a backup's fence: the epoch is durable before P hears of it.
func (e *Engine) fenced() error {
	e.st.Drain() // what landed before the key was gone
	for e.takeIn() {
	}
	if err := e.log.SetEpoch(e.change.epoch); err != nil {
		return err
	}
	drained := e.st.Drained()
	if err := e.st.SetEpoch(e.change.epoch, e.log.End()); err != nil {
		return err
	}
	e.change.phase = waiting
	e.send(0, msgFenced, e.change.epoch, e.log.End(), drained, e.key)
	return nil
}

func (e *Engine) fencedMember(from int, m memberState) {
	if e.change.phase == fencing && m.epoch == e.change.epoch && e.others()>>from&1 != 0 {
		e.change.members[from] = m
	}
}

// reconcile: P's log is the truth, all of it; so nobody may know of more.
func (e *Engine) reconcile() error {
	end := e.log.End()
	mirrors := e.cfg.Policy.Mirrors(e.cfg.Mirrors, bits.OnesCount64(e.change.target))
	v := sentView{epoch: e.change.epoch, end: end, protocol: e.core.Name(), policy: e.cfg.Policy, mirrors: uint32(mirrors)}
	view := &replication.View{Epoch: v.epoch, Self: 0, Policy: v.policy, Mirrors: mirrors, End: end}
	for i := range e.change.members {
		if e.change.target>>i&1 == 0 {
			continue
		}
		m := e.change.members[i]
		if i == e.cfg.Self {
			m = memberState{epoch: v.epoch, end: end, drained: end, key: e.key}
		}
		if known := max(m.end, m.drained); known > end && e.bad != FaultShortLog {
			return fmt.Errorf("the primary's log in %s ends at record %d, but %s knows of records up to %d: the primary's folder was emptied, shortened or replaced, and the records that only %s has would be lost. Restore the folder of %s; the shard is not served until then",
				e.name(e.cfg.Self), end, e.name(i), known, e.name(i), e.name(e.cfg.Self))
		}
		v.members = append(v.members, memberEntry{id: uint32(i), key: m.key, dataEnd: m.end})
		view.Members = append(view.Members, replication.Member{ID: i, Key: m.key, DataEnd: m.end})
	}
	if err := e.log.AddEntry(plog.EpochEntry{Epoch: v.epoch, FirstSeq: end + 1, FirstOff: e.log.Tail()}); err != nil {
		return err
	}
	v.table = e.log.Superblock().Table
	if err := e.st.SetEpoch(v.epoch, end); err != nil {
		return err
	}
	e.enter(view)
	for i := range e.links {
		if e.others()>>i&1 != 0 {
			e.sendView(i, &v)
		}
	}
	e.change.phase = resending
	e.change.next = view.Base() + 1
	if e.change.next <= end {
		it, err := e.log.Seek(e.change.next)
		if err != nil {
			return err
		}
		e.change.resend = it
	}
	return nil
}

// enter makes a view the current one.
func (e *Engine) enter(v *replication.View) {
	e.counts.Views++
	e.view = v
	e.in.View = v
	e.in.Peers = make([]replication.Progress, len(v.Members))
	for _, m := range v.Members {
		e.links[m.ID].inView = e.links[m.ID].conn != nil
	}
	e.room = 0
	e.reader = -1
	if i := e.core.Reader(v); i >= 0 {
		e.reader = v.Members[i].ID
	}
	elsewhere := e.reader >= 0 && e.reader != e.cfg.Self
	e.elsewhere.Store(elsewhere)
	for ; elsewhere && len(e.dirty.waiting) > 0; e.dirty.waiting = e.dirty.waiting[1:] {
		e.away.push(e.dirty.waiting[0])
	}
}

// resend hands the records above the lowest data end to the core again, as the rings have room, and activates the view
// when all of them, and every member's word, are there.
func (e *Engine) resend() bool {
	c := &e.change
	end := e.view.End
	progress := false
	for c.next <= end && e.room > len(e.in.Appended) {
		rec, _, ok := c.resend.Next()
		if !ok || rec.Seq != c.next {
			e.stop(fmt.Errorf("%s: record %d could not be read again", e.log.Name(), c.next))
			return false
		}
		e.in.Appended = append(e.in.Appended, rec)
		c.next++
		progress = true
	}
	if progress {
		return true
	}
	for i, m := range c.members {
		if e.others()>>i&1 != 0 && !m.viewed {
			return false
		}
	}
	if c.next <= end || e.out.Stable < end && e.bad != FaultEarlyActive || e.in.View != nil {
		return false
	}
	if e.cfg.Elastic == nil {
		e.begin()
		return true
	}
	if e.agreed.pending || !e.agreed.known || e.agreed.record.Epoch != c.epoch || e.outlast() > e.now {
		return false
	}
	c.phase = activating
	e.proposeActive()
	return true
}

// begin lets the view serve at P, and tells its members.
func (e *Engine) begin() {
	end := e.view.End
	e.change.phase = idle
	e.agreed.led = true
	e.st.SetStable(end)
	e.ctl.SetS(plog.Word(e.view.Epoch, end))
	e.serving.Store(e.view.Epoch)
	e.beginLeases()
	for i := range e.links {
		if e.others()>>i&1 != 0 {
			e.send(i, msgActive, e.view.Epoch, end)
		}
	}
	e.event(fmt.Sprintf("epoch %d is active: %d members, %d records", e.view.Epoch, len(e.view.Members), end))
}

func (e *Engine) viewedMember(from int, epoch uint32) {
	if e.change.phase == resending && epoch == e.change.epoch && e.others()>>from&1 != 0 {
		e.change.members[from].viewed = true
	}
}

// adoptView is VIEW at a backup. The epoch table is durable before a byte of the epoch is taken in.
func (e *Engine) adoptView(v *sentView) error {
	if e.change.phase != waiting || v.epoch != e.change.epoch || e.view != nil {
		return nil
	}
	if v.protocol != e.core.Name() {
		e.stop(fmt.Errorf("the primary %s replicates by %s, this member %s is set to %s: give all members the same --protocol", e.name(0), v.protocol, e.name(e.cfg.Self), e.core.Name()))
		return nil
	}
	view := &replication.View{Epoch: v.epoch, Self: -1, Policy: v.policy, Mirrors: int(v.mirrors), End: v.end}
	for i, m := range v.members {
		if int(m.id) >= len(e.links) {
			return fmt.Errorf("%w: a view with a member %d", errMessage, m.id)
		}
		if int(m.id) == e.cfg.Self {
			view.Self = i
		}
		view.Members = append(view.Members, replication.Member{ID: int(m.id), Key: m.key, DataEnd: m.dataEnd})
	}
	if view.Self < 1 || view.Members[view.Self].DataEnd != e.log.End() || v.end < e.log.End() {
		return fmt.Errorf("%w: a view that is not this member's", errMessage)
	}
	have := uint32(0)
	if table := e.log.Superblock().Table; len(table) > 0 {
		have = table[len(table)-1].Epoch
	}
	for _, t := range v.table {
		if t.Epoch > have {
			if err := e.log.AddEntry(t); err != nil {
				e.stop(err)
				return nil
			}
		}
	}
	e.enter(view)
	e.send(0, msgViewed, v.epoch)
	return nil
}

// activated is ACTIVE at a backup: S is P's log end, and this member serves.
func (e *Engine) activated(epoch uint32, s uint64) {
	if e.change.phase != waiting || epoch != e.change.epoch || e.view == nil {
		return
	}
	e.change.phase = idle
	e.st.SetStable(s)
	e.serving.Store(epoch)
	e.beginLeases()
	e.event(fmt.Sprintf("epoch %d is active", epoch))
}
