package command

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"whale/internal/resp"
)

// mapTx is the store as a map. It keeps the contract of Tx by being unforgiving: what Set was given is read at commit, not
// before, and what Get returned is spoiled then.
type mapTx struct {
	committed map[string]entry
	writes    map[string]func() (entry, bool) // of the running transaction
	flushed   bool
	lent      [][]byte
	wrote     int
	stamp     uint64            // number of transactions
	changed   map[string]uint64 // by key, the stamp of the last change
	now       func() int64
}

type entry struct {
	value    []byte
	deadline int64
}

func (m *mapTx) get(key string) (entry, bool) {
	e, ok := m.committed[key]
	ok = ok && !m.flushed
	if w, mine := m.writes[key]; mine {
		e, ok = w()
	}
	return e, ok && (e.deadline == 0 || e.deadline > m.now())
}

func (m *mapTx) Get(key []byte) ([]byte, bool) {
	e, ok := m.get(string(key))
	if _, mine := m.writes[string(key)]; ok && !mine {
		e.value = slices.Clone(e.value)
		m.lent = append(m.lent, e.value)
	}
	return e.value, ok
}

func (m *mapTx) Deadline(key []byte) (int64, bool) {
	e, ok := m.get(string(key))
	return e.deadline, ok
}

func (m *mapTx) Set(key, value []byte) { m.SetUntil(key, value, 0) }

func (m *mapTx) SetUntil(key, value []byte, deadline int64) {
	m.wrote++
	m.writes[string(key)] = func() (entry, bool) { return entry{value, deadline}, true }
}

func (m *mapTx) Del(key []byte) bool {
	_, ok := m.get(string(key))
	if ok {
		m.wrote++
		m.writes[string(key)] = func() (entry, bool) { return entry{}, false }
	}
	return ok
}

func (m *mapTx) FlushAll() {
	m.wrote++
	m.flushed = true
	clear(m.writes)
}

func (m *mapTx) keys() (keys []string) {
	for k := range m.committed {
		if _, mine := m.writes[k]; !mine {
			keys = append(keys, k)
		}
	}
	keys = slices.AppendSeq(keys, maps.Keys(m.writes))
	keys = slices.DeleteFunc(keys, func(k string) bool { _, there := m.get(k); return !there })
	slices.Sort(keys)
	return keys
}

func (m *mapTx) Len() int { return len(m.keys()) }

// Scan gives one key a time.
func (m *mapTx) Scan(cursor uint64, visit func([]byte)) uint64 {
	keys := m.keys()
	at := int(cursor >> 32)
	if at < len(keys) {
		visit([]byte(keys[at]))
	}
	if at+1 >= len(keys) {
		return 0
	}
	return uint64(at+1) << 32
}

func (m *mapTx) Stamp() uint64 { return m.stamp }

func (m *mapTx) begin() {
	m.writes, m.flushed, m.wrote, m.lent = map[string]func() (entry, bool){}, false, 0, nil
}

func (m *mapTx) commit() {
	m.stamp++
	next := map[string]entry{}
	if !m.flushed {
		next = maps.Clone(m.committed)
	} else {
		for k := range m.committed {
			m.changed[k] = m.stamp
		}
	}
	for k, w := range m.writes {
		m.changed[k] = m.stamp
		if e, ok := w(); ok {
			next[k] = entry{slices.Clone(e.value), e.deadline}
		} else {
			delete(next, k)
		}
	}
	m.committed = next
	for _, v := range m.lent {
		for i := range v {
			v[i] = 0xee
		}
	}
}

// node is a whole server for commands: parser, table, store and one client.
type node struct {
	t       testing.TB
	tx      *mapTx
	ctx     Ctx
	client  Client
	others  []*Client
	now     int64
	params  *Params
	notes   Notes
	done    []string // what the commands asked the node for
	parser  resp.Parser
	dropped bool // a protocol error ended the connection
	partial bool // what is sent may end inside a command
}

func newNode(t testing.TB) *node {
	n := &node{t: t, now: 1_700_000_000_000, tx: &mapTx{committed: map[string]entry{}, changed: map[string]uint64{}}}
	n.tx.now = n.Now
	n.client = Client{ID: 3, Addr: "127.0.0.1:5000", LAddr: "127.0.0.1:7001", Created: n.now - 5000, Proto: 2}
	n.params = NewParams(map[string]string{"port": "7001", "maxclients": "10000", "enable-debug-command": "no"})
	n.notes.Times = []Times{NewTimes()}
	n.ctx = Ctx{W: &resp.Writer{Proto: 2}, Client: &n.client, Server: n}
	return n
}

func (n *node) Now() int64          { return n.now }
func (n *node) RoleName() string    { return "master" }
func (n *node) Role(w *resp.Writer) { w.Array(3); w.BulkString("master"); w.Int(0); w.Array(0) }
func (n *node) Info(dst []byte, section string) []byte {
	return append(dst, fmt.Sprintf("name_of_section:%s\r\n", section)...)
}
func (n *node) Clients() iter.Seq[*Client] {
	return slices.Values(append([]*Client{&n.client}, n.others...))
}

func (n *node) Params() *Params { return n.params }
func (n *node) Notes() *Notes   { return &n.notes }
func (n *node) Kill(c *Client)  { n.done = append(n.done, fmt.Sprint("kill ", c.ID)) }
func (n *node) Pause(ms int64, all bool) {
	n.done = append(n.done, fmt.Sprint("pause ", ms, " ", all))
}
func (n *node) Unblock(c *Client, withError bool) bool {
	n.done = append(n.done, fmt.Sprint("unblock ", c.ID, " ", withError))
	return true
}
func (n *node) Monitor(c *Client) { n.done = append(n.done, fmt.Sprint("monitor ", c.Monitoring())) }
func (n *node) ResetStats()       { n.done = append(n.done, "reset"); n.notes.Reset() }

// send runs whatever bytes a client could send and returns the bytes of the replies.
func (n *node) send(stream []byte) string {
	w := n.ctx.W
	w.Buf = w.Buf[:0]
	stream = slices.Clone(stream)
	for len(stream) > 0 && !n.dropped {
		args, took, err := n.parser.Next(stream)
		if err != nil {
			w.Error("ERR " + err.Error())
			n.dropped = true
			break
		}
		if took == 0 && n.partial {
			break
		}
		if took == 0 {
			n.t.Fatalf("incomplete command %q", stream)
		}
		stream = stream[took:]
		if len(args) > 0 {
			n.execute(args)
		}
	}
	return string(w.Buf)
}

func (n *node) execute(args [][]byte) {
	cmd := Lookup(args[0])
	if text := Check(cmd, args); text != "" {
		n.ctx.W.Error(n.client.Refused(cmd, text))
		return
	}
	cmd = cmd.Resolve(args)
	n.client.Touch(cmd, n.now)
	if n.client.Queue(cmd, args, func() *resp.Writer { return n.ctx.W }) {
		return
	}
	if cmd.Place == Transact {
		n.transact(cmd, args)
		return
	}
	n.run(cmd, args)
}

// transact is WATCH and EXEC as engine and node do them together. Stamps are compared with what was written since, of
// whatever key.
func (n *node) transact(cmd *Command, args [][]byte) {
	if cmd.Name == "watch" {
		n.client.Watch(args[1:]).Stamp = n.tx.stamp
		n.ctx.W.OK()
		return
	}
	t, text := n.client.Exec()
	if text != "" {
		n.ctx.W.Error(text)
		return
	}
	for _, w := range t.Watched {
		for _, key := range w.Keys {
			if n.tx.changed[string(key)] > w.Stamp {
				n.ctx.W.NullArray()
				return
			}
		}
	}
	reply := n.ctx.W
	engine := resp.Writer{Proto: reply.Proto}
	engine.Array(t.Remote())
	n.ctx.W = &engine
	for _, call := range t.Calls {
		if !call.Here() {
			n.run(call.Cmd, call.Args)
		}
	}
	n.ctx.W = reply
	t.Splice(reply, engine.Buf, func(call *Call) { n.run(call.Cmd, call.Args) })
}

func (n *node) run(cmd *Command, args [][]byte) {
	n.ctx.Args, n.ctx.Tx = args, nil
	if cmd.Place != Here {
		n.ctx.Tx = n.tx
	}
	n.tx.begin()
	before := len(n.ctx.W.Buf)
	for again := true; again; again = n.ctx.Walk.More {
		cmd.Run(&n.ctx)
	}
	if n.tx.wrote > 0 && cmd.Place != Write {
		n.t.Fatalf("%s wrote, but its place is %d", cmd.Name, cmd.Place)
	}
	if n.ctx.Wait.Asked {
		n.ctx.W.Int(0) // as a primary without others would answer
	}
	if size, err := resp.SkipReply(n.ctx.W.Buf[before:]); err != nil || size != len(n.ctx.W.Buf)-before {
		n.t.Fatalf("%q: %q is not exactly one reply: %v", args, n.ctx.W.Buf[before:], err)
	}
	n.tx.commit()
	n.ctx.Reset()
}

func (n *node) do(args ...string) string { return n.send(resp.AppendCommand(nil, args...)) }
