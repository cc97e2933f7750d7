package command

import (
	"crypto/subtle"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"whale/internal/resp"
)

// Params are a node's settings as CONFIG shows them: those that are fixed while it runs, and those that CONFIG SET may
// change at this node until it ends. Make them with [NewParams]; all methods may be called from any goroutine.
type Params struct {
	fixed map[string]string

	setting  sync.Mutex // CONFIG SET is all or nothing
	password atomic.Pointer[string]

	slowerThan atomic.Int64 // microseconds; negative: the slow log is off
	slowMax    atomic.Int64 // entries
	latency    atomic.Int64 // milliseconds; 0: latency events are off
}

// Defaults of the parameters that can be changed, which are those of Redis.
const (
	DefaultSlowerThan = 10_000 // microseconds
	DefaultSlowMax    = 128
)

// NewParams are the given fixed parameters, by their names in lower case, and the changeable ones with their defaults.
func NewParams(fixed map[string]string) *Params {
	p := &Params{fixed: fixed}
	p.SetPassword("")
	p.slowerThan.Store(DefaultSlowerThan)
	p.slowMax.Store(DefaultSlowMax)
	return p
}

// SetPassword sets requirepass; empty: none is required.
func (p *Params) SetPassword(password string) { p.password.Store(&password) }

// Locked says whether a connection has to authenticate.
func (p *Params) Locked() bool { return *p.password.Load() != "" }

// opens compares in a time that does not depend on how much of the password is right.
func (p *Params) opens(password []byte) bool {
	return subtle.ConstantTimeCompare([]byte(*p.password.Load()), password) == 1
}

// SlowerThan is the time in microseconds from which on a command is for the slow log; false: none is.
func (p *Params) SlowerThan() (int64, bool) {
	us := p.slowerThan.Load()
	return us, us >= 0 && p.slowMax.Load() > 0
}

// SlowLog is slowlog-log-slower-than and slowlog-max-len.
func (p *Params) SlowLog() (slowerThan, max int64) { return p.slowerThan.Load(), p.slowMax.Load() }

// SetSlowLog sets slowlog-log-slower-than and slowlog-max-len.
func (p *Params) SetSlowLog(slowerThan, max int64) {
	p.slowerThan.Store(slowerThan)
	p.slowMax.Store(max)
}

// LatencyThreshold is the time in milliseconds from which on a command is a latency event; false: none is.
func (p *Params) LatencyThreshold() (int64, bool) {
	ms := p.latency.Load()
	return ms, ms > 0
}

// SetLatencyThreshold sets latency-monitor-threshold, in milliseconds.
func (p *Params) SetLatencyThreshold(ms int64) { p.latency.Store(ms) }

// numbers are the changeable parameters that are numbers, with their lowest value.
func (p *Params) number(name string) (v *atomic.Int64, least int64) {
	switch name {
	case "slowlog-log-slower-than":
		return &p.slowerThan, -1
	case "slowlog-max-len":
		return &p.slowMax, 0
	case "latency-monitor-threshold":
		return &p.latency, 0
	}
	return nil, 0
}

// all is every parameter as text.
func (p *Params) all() map[string]string {
	m := maps.Clone(p.fixed)
	if m == nil {
		m = map[string]string{}
	}
	m["requirepass"] = *p.password.Load()
	for _, name := range []string{"slowlog-log-slower-than", "slowlog-max-len", "latency-monitor-threshold"} {
		v, _ := p.number(name)
		m[name] = strconv.FormatInt(v.Load(), 10)
	}
	return m
}

// set changes parameters, pairs of a name and a value, all or none. The error is the text of the reply.
func (p *Params) set(pairs [][]byte) (errText string) {
	p.setting.Lock()
	defer p.setting.Unlock()
	have := p.all()
	seen := map[string]bool{}
	var changes []func()
	for i := 0; i < len(pairs); i += 2 {
		name, value := string(asciiLower(pairs[i])), string(pairs[i+1])
		old, ok := have[name]
		if !ok {
			return "ERR Unknown option or number of arguments for CONFIG SET - '" + cString(pairs[i], len(pairs[i])) + "'"
		}
		failed := func(why string) string {
			return "ERR CONFIG SET failed (possibly related to argument '" + name + "') - " + why
		}
		if seen[name] {
			return failed("duplicate parameter")
		}
		seen[name] = true
		number, least := p.number(name)
		switch {
		case name == "requirepass":
			changes = append(changes, func() { p.SetPassword(value) })
		case number != nil:
			n, ok := resp.ParseInt(pairs[i+1])
			switch {
			case !ok:
				return failed("argument couldn't be parsed into an integer")
			case n < least:
				return failed("argument must be between " + strconv.FormatInt(least, 10) + " and 9223372036854775807 inclusive")
			}
			changes = append(changes, func() { number.Store(n) })
		case value == old: // nothing changes
		default:
			return failed("can't set immutable config")
		}
	}
	for _, change := range changes {
		change()
	}
	return ""
}

var configCommands = []*Command{container("config", "server", "2.0.0", "Commands about settings",
	sub(adminSub, "config|get", -3, "2.0.0", "Returns the parameters whose names match one of the patterns", configGet),
	tips(sub(adminSub, "config|set", -4, "2.0.0", "Changes parameters of this node until it ends, all of them or none", configSet), "request_policy:all_nodes response_policy:all_succeeded"),
	sub(adminSub, "config|resetstat", 2, "2.0.0", "Sets this node's counters to zero", func(c *Ctx) { c.Server.ResetStats(); c.W.OK() }),
	sub(adminSub, "config|rewrite", 2, "2.8.0", "Always fails: files with settings are for people to write", configRewrite),
	sub(helpSub, "config|help", 2, "5.0.0", "Lists the subcommands", help),
)}

func configGet(c *Ctx) {
	params := c.Server.Params().all()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if slices.ContainsFunc(c.Args[2:], func(pattern []byte) bool { return matchFold(string(pattern), name) }) {
			names = append(names, name)
		}
	}
	c.W.Map(len(names))
	for _, name := range names {
		c.W.BulkString(name)
		c.W.BulkString(params[name])
	}
}

func configSet(c *Ctx) {
	if len(c.Args)%2 != 0 {
		c.W.Error(errSyntax)
		return
	}
	if text := c.Server.Params().set(c.Args[2:]); text != "" {
		c.W.Error(text)
		return
	}
	c.W.OK()
}

func configRewrite(c *Ctx) {
	if c.Server.Params().all()["config-file"] == "" {
		c.W.Error("ERR The server is running without a config file")
		return
	}
	c.W.Error("ERR Rewriting config file: not supported, because its comments would be lost; edit the file, and compare with whale config")
}
