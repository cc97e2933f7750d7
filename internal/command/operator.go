package command

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"whale/internal/resp"
)

var operatorCommands = []*Command{
	{Name: "monitor", Arity: 1, Place: Here, Run: monitor,
		Flags: words("admin noscript loading stale"), Categories: words("@admin @slow @dangerous"),
		Group: "server", Since: "1.0.0", Summary: "Shows every command that this node is given, as it comes", Complexity: "O(1)"},
	{Name: "debug", Arity: -2, Place: Here, Run: debug,
		Flags: words("admin noscript loading stale"), Categories: words("@admin @slow @dangerous"),
		Group: "server", Since: "1.0.0", Summary: "DEBUG SLEEP seconds makes this node stand still; for tests, where enable-debug-command allows it", Complexity: "Depends on the subcommand"},
	{Name: "time", Arity: 1, Place: Here, Run: showTime,
		Flags: words("loading stale fast"), Categories: words("@fast"), Tips: words("nondeterministic_output"),
		Group: "server", Since: "2.6.0", Summary: "Returns this node's clock: unix seconds, and microseconds of the second", Complexity: "O(1)"},
	container("memory", "server", "4.0.0", "Commands about memory",
		&Command{Name: "memory|usage", Arity: -3, Place: Read, Run: memoryUsage, Flags: words("readonly"), Categories: words("@read @slow"),
			FirstKey: 2, LastKey: 2, Step: 1, KeyFlags: words("RO"),
			Since: "4.0.0", Summary: "Returns how many bytes of the log the key's newest record takes", Complexity: "O(1)"},
		memorySub("stats", "Returns this node's figures of memory", memoryStats, "nondeterministic_output request_policy:all_shards response_policy:special"),
		memorySub("doctor", "Says in words what is wrong with the memory", memoryDoctor, "nondeterministic_output request_policy:all_shards response_policy:special"),
		memorySub("malloc-stats", "Says that there is no such allocator", func(c *Ctx) { c.W.BulkString("Stats not supported for the current allocator") },
			"nondeterministic_output request_policy:all_shards response_policy:special"),
		memorySub("purge", "Does nothing: memory of the log is not the allocator's", func(c *Ctx) { c.W.OK() }, "request_policy:all_shards response_policy:all_succeeded"),
		sub(helpSub, "memory|help", 2, "4.0.0", "Lists the subcommands", help),
	),
	container("function", "scripting", "7.0.0", "Commands about functions, of which there are none",
		tips(sub(subKind{words("write noscript"), words("@write @slow @scripting")}, "function|flush", -2, "7.0.0", "Deletes all functions", functionFlush),
			"request_policy:all_shards response_policy:all_succeeded"),
		tips(sub(scriptSub, "function|list", -2, "7.0.0", "Lists all functions", functionList), "nondeterministic_output_order"),
		sub(subKind{helpSub.flags, scriptSub.categories}, "function|help", 2, "7.0.0", "Lists the subcommands", help),
	),
	clusterCommand(),
	notClustered("readonly", words("loading stale fast"), "3.0.0"),
	notClustered("readwrite", words("loading stale fast"), "3.0.0"),
	notClustered("asking", words("fast"), "3.0.0"),
}

const errNoCluster = "ERR This instance has cluster support disabled"

// notClustered is a command that only means something to Redis Cluster.
func notClustered(name string, flags []string, since string) *Command {
	return &Command{Name: name, Arity: 1, Place: Here, Run: func(c *Ctx) { c.W.Error(errNoCluster) },
		Flags: flags, Categories: words("@fast @connection"),
		Group: "cluster", Since: since, Summary: "Is about Redis Cluster, which this is not", Complexity: "O(1)"}
}

// clusterCommand has the subcommands that clients send to find out what they talk to.
func clusterCommand() *Command {
	var subs []*Command
	for _, name := range []string{"info", "nodes", "slots", "shards", "myid"} {
		s := sub(subKind{words("stale"), words("@slow")}, "cluster|"+name, 2, "3.0.0", "Is about Redis Cluster, which this is not", func(c *Ctx) { c.W.Error(errNoCluster) })
		if name != "myid" {
			s.Tips = words("nondeterministic_output")
		}
		subs = append(subs, s)
	}
	subs = append(subs, sub(helpSub, "cluster|help", 2, "5.0.0", "Is about Redis Cluster, which this is not", func(c *Ctx) { c.W.Error(errNoCluster) }))
	return container("cluster", "cluster", "3.0.0", "Commands about Redis Cluster, which this is not", subs...)
}

func monitor(c *Ctx) {
	c.W.OK()
	c.Client.setMonitor(true)
	c.Server.Monitor(c.Client)
}

// MonitorLine is what a monitor is shown of a command: the time in unix microseconds, the client, and the arguments as a
// client would have to write them.
func MonitorLine(dst []byte, micros int64, cl *Client, cmd *Command, args [][]byte) []byte {
	dst = append(dst, '+')
	dst = strconv.AppendInt(dst, micros/1e6, 10)
	dst = append(dst, '.')
	frac := strconv.FormatInt(1e6+micros%1e6, 10)
	dst = append(dst, frac[1:]...)
	dst = append(dst, " [0 "...)
	dst = append(dst, cl.Addr...)
	dst = append(dst, ']')
	for i, a := range args {
		dst = append(dst, ' ')
		if cmd.hides(args, i) {
			dst = append(dst, `"(redacted)"`...)
		} else {
			dst = appendQuoted(dst, a)
		}
	}
	return append(dst, "\r\n"...)
}

// appendQuoted is the notation of MONITOR: what is not printable ASCII is escaped.
func appendQuoted(dst, b []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range b {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c == '\a':
			dst = append(dst, `\a`...)
		case c == '\b':
			dst = append(dst, `\b`...)
		case c < ' ' || c > '~':
			dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// Monitored says whether monitors are shown the command: those of operators are not.
func (cmd *Command) Monitored() bool { return !slices.Contains(cmd.Flags, "admin") }

const longestSleep = 60.0 // seconds

// debug stops the goroutine that serves this connection, and with it everything that it serves; that is the point.
func debug(c *Ctx) {
	if c.Server.Params().fixed["enable-debug-command"] != "yes" {
		c.W.Error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"yes\" in the configuration, and the node is started again, it is.")
		return
	}
	if len(c.Args) != 3 || !c.is(1, "sleep") {
		c.W.Error(subSyntax(c))
		return
	}
	seconds, err := strconv.ParseFloat(string(c.Args[2]), 64)
	if err != nil || !(seconds >= 0 && seconds <= longestSleep) {
		c.W.Error("ERR DEBUG SLEEP takes 0 to 60 seconds")
		return
	}
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	c.W.OK()
}

func showTime(c *Ctx) {
	now := c.Server.Now() * 1000
	c.W.Array(2)
	c.W.BulkInt(now / 1e6)
	c.W.BulkInt(now % 1e6)
}

func memorySub(name, summary string, run func(*Ctx), hints string) *Command {
	return tips(sub(plainSub, "memory|"+name, 2, "4.0.0", summary, run), hints)
}

// recordHeader is what a record has in front of key and value; the log aligns to 8.
const recordHeader = 64

func memoryUsage(c *Ctx) {
	for i := 3; i < len(c.Args); i += 2 {
		if !c.is(i, "samples") || i+1 >= len(c.Args) {
			c.W.Error(errSyntax)
			return
		}
		n, ok := c.integer(i + 1)
		if !ok {
			return
		}
		if n < 0 {
			c.W.Error(errSyntax)
			return
		}
	}
	value, ok := c.Tx.Get(c.Args[2])
	if !ok {
		c.W.Null()
		return
	}
	c.W.Int(int64(recordHeader+len(c.Args[2])+len(value)+7) &^ 7)
}

// memoryStats shows the fields of INFO's section memory, by the same names.
func memoryStats(c *Ctx) {
	fields := strings.Fields(string(c.Server.Info(nil, "memory")))
	c.W.Map(len(fields))
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		c.W.BulkString(name)
		if n, ok := resp.ParseInt([]byte(value)); ok {
			c.W.Int(n)
		} else {
			c.W.BulkString(value)
		}
	}
}

func memoryDoctor(c *Ctx) {
	var size, used int64
	for _, f := range strings.Fields(string(c.Server.Info(nil, "memory"))) {
		name, value, _ := strings.Cut(f, ":")
		switch n, _ := resp.ParseInt([]byte(value)); name {
		case "whale_arena_bytes":
			size = n
		case "whale_arena_used_bytes":
			used = n
		}
	}
	text := "The arena is large enough."
	if used*10 > size*9 {
		text = "More than nine tenths of the arena are used, and its space is not used again: when it is full, writes get -OOM. Start the nodes with a larger --arena, on empty folders."
	}
	c.W.Verbatim("txt", text+"\n")
}

func functionFlush(c *Ctx) {
	switch {
	case len(c.Args) > 3:
		c.W.Error(subSyntax(c))
	case len(c.Args) == 3 && !c.is(2, "sync") && !c.is(2, "async"):
		c.W.Error("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
	default:
		c.W.OK()
	}
}

func functionList(c *Ctx) {
	for i := 2; i < len(c.Args); i++ {
		switch {
		case c.is(i, "withcode"):
		case c.is(i, "libraryname"):
			if i++; i == len(c.Args) {
				c.W.Error("ERR library name argument was not given")
				return
			}
		default:
			c.W.Error("ERR Unknown argument " + cString(c.Args[i], len(c.Args[i])))
			return
		}
	}
	c.W.Array(0)
}
