package command

import (
	"strings"

	"whale/internal/resp"
)

var introspectionCommands = []*Command{
	{Name: "command", Arity: -1, Place: Here, Run: command, Flags: words("loading stale"), Categories: words("@slow @connection"),
		Tips:  words("nondeterministic_output_order"),
		Group: "server", Since: "2.8.13", Summary: "Describes all commands", Complexity: "O(N), N the number of commands",
		Sub: []*Command{
			commandSub("count", 2, "2.8.13", "Returns the number of commands", func(c *Ctx) { c.W.Int(int64(len(all))) }),
			commandSub("docs", -2, "7.0.0", "Returns what commands are for", commandDocs),
			commandSub("getkeys", -4, "2.8.13", "Returns the keys in a whole command", commandGetKeys),
			commandSub("info", -2, "2.8.13", "Describes commands", commandInfo),
			commandSub("list", -2, "7.0.0", "Returns the names of commands", commandList),
			commandSub("help", 2, "5.0.0", "Lists the subcommands", help),
		}},
}

func commandSub(name string, arity int, since, summary string, run func(*Ctx)) *Command {
	cmd := &Command{Name: "command|" + name, Arity: arity, Place: Here, Run: run,
		Flags: words("loading stale"), Categories: words("@slow @connection"),
		Group: "server", Since: since, Summary: summary, Complexity: "O(N), N the number of commands"}
	switch name {
	case "docs", "info", "list":
		cmd.Tips = words("nondeterministic_output_order")
	case "getkeys":
		cmd.Complexity = "O(N), N the number of arguments"
	case "count", "help":
		cmd.Complexity = "O(1)"
	}
	return cmd
}

func command(c *Ctx) {
	if len(c.Args) > 1 {
		runSub(c)
		return
	}
	c.W.Array(len(all))
	for _, cmd := range all {
		writeInfo(c.W, cmd)
	}
}

// find looks a command up by "name" or "name|subcommand".
func find(name []byte) *Command {
	container, sub, isSub := strings.Cut(string(name), "|")
	cmd := Lookup([]byte(container))
	if cmd != nil && isSub {
		return cmd.sub([]byte(sub))
	}
	return cmd
}

func commandInfo(c *Ctx) {
	if len(c.Args) == 2 {
		c.W.Array(len(all))
		for _, cmd := range all {
			writeInfo(c.W, cmd)
		}
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, name := range c.Args[2:] {
		if cmd := find(name); cmd != nil {
			writeInfo(c.W, cmd)
		} else {
			c.W.Null()
		}
	}
}

// writeInfo is one element of COMMAND and COMMAND INFO. The order of its ten parts is fixed by the protocol.
func writeInfo(w *resp.Writer, cmd *Command) {
	w.Array(10)
	w.BulkString(cmd.Name)
	w.Int(int64(cmd.Arity))
	writeStatusSet(w, cmd.Flags)
	w.Int(int64(cmd.FirstKey))
	w.Int(int64(cmd.LastKey))
	w.Int(int64(cmd.Step))
	writeStatusSet(w, cmd.Categories)
	w.Set(len(cmd.Tips))
	for _, tip := range cmd.Tips {
		w.BulkString(tip)
	}
	writeKeySpecs(w, cmd)
	w.Set(len(cmd.Sub))
	for _, s := range cmd.Sub {
		writeInfo(w, s)
	}
}

func writeStatusSet(w *resp.Writer, words []string) {
	w.Set(len(words))
	for _, s := range words {
		w.Status(s)
	}
}

// writeKeySpecs says where the keys are: all commands here have at most one run of keys at a fixed position, or two keys
// that are used in two ways.
func writeKeySpecs(w *resp.Writer, cmd *Command) {
	switch {
	case cmd.FirstKey == 0:
		w.Set(0)
	case cmd.SecondKeyFlags != nil:
		w.Set(2)
		writeKeySpec(w, cmd, cmd.KeyFlags, cmd.FirstKey, 0)
		writeKeySpec(w, cmd, cmd.SecondKeyFlags, cmd.LastKey, 0)
	case cmd.LastKey > 0:
		w.Set(1)
		writeKeySpec(w, cmd, cmd.KeyFlags, cmd.FirstKey, cmd.LastKey-cmd.FirstKey)
	default:
		w.Set(1)
		writeKeySpec(w, cmd, cmd.KeyFlags, cmd.FirstKey, cmd.LastKey)
	}
}

// writeKeySpec writes one run of keys; its last one is counted from the first, or from the end.
func writeKeySpec(w *resp.Writer, cmd *Command, flags []string, first, last int) {
	if cmd.KeyNotes != "" {
		w.Map(4)
		w.BulkString("notes")
		w.BulkString(cmd.KeyNotes)
	} else {
		w.Map(3)
	}
	w.BulkString("flags")
	writeStatusSet(w, flags)
	w.BulkString("begin_search")
	w.Map(2)
	w.BulkString("type")
	w.BulkString("index")
	w.BulkString("spec")
	w.Map(1)
	w.BulkString("index")
	w.Int(int64(first))
	w.BulkString("find_keys")
	w.Map(2)
	w.BulkString("type")
	w.BulkString("range")
	w.BulkString("spec")
	w.Map(3)
	w.BulkString("lastkey")
	w.Int(int64(last))
	w.BulkString("keystep")
	w.Int(int64(cmd.Step))
	w.BulkString("limit")
	w.Int(0)
}

func commandDocs(c *Ctx) {
	found := all
	if len(c.Args) > 2 {
		found = nil
		for _, name := range c.Args[2:] {
			if cmd := find(name); cmd != nil {
				found = append(found, cmd)
			}
		}
	}
	c.W.Map(len(found))
	for _, cmd := range found {
		writeDocs(c.W, cmd)
	}
}

func writeDocs(w *resp.Writer, cmd *Command) {
	w.BulkString(cmd.Name)
	facts := [][2]string{{"summary", cmd.Summary}, {"since", cmd.Since}, {"group", cmd.Group}, {"complexity", cmd.Complexity}}
	if len(cmd.Sub) > 0 {
		w.Map(len(facts) + 1)
	} else {
		w.Map(len(facts))
	}
	for _, f := range facts {
		w.BulkString(f[0])
		w.BulkString(f[1])
	}
	if len(cmd.Sub) > 0 {
		w.BulkString("subcommands")
		w.Map(len(cmd.Sub))
		for _, s := range cmd.Sub {
			writeDocs(w, s)
		}
	}
}

func commandList(c *Ctx) {
	var wanted func(*Command) bool
	switch {
	case len(c.Args) == 2:
		wanted = func(*Command) bool { return true }
	case len(c.Args) != 5 || !c.is(2, "filterby"):
	case c.is(3, "module"):
		wanted = func(*Command) bool { return false } // there are no modules
	case c.is(3, "aclcat"):
		wanted = func(cmd *Command) bool {
			for _, cat := range cmd.Categories {
				if equalFold(c.Args[4], cat[1:]) {
					return true
				}
			}
			return false
		}
	case c.is(3, "pattern"):
		wanted = func(cmd *Command) bool { return matchFold(string(c.Args[4]), cmd.Name) }
	}
	if wanted == nil {
		c.W.Error(errSyntax)
		return
	}
	var names []string
	for _, cmd := range all {
		for _, each := range append([]*Command{cmd}, cmd.Sub...) {
			if wanted(each) {
				names = append(names, each.Name)
			}
		}
	}
	c.W.Array(len(names))
	for _, name := range names {
		c.W.BulkString(name)
	}
}

func commandGetKeys(c *Ctx) {
	args := c.Args[2:]
	cmd := Lookup(args[0])
	if cmd != nil && len(cmd.Sub) > 0 {
		cmd = cmd.sub(args[1])
	}
	switch {
	case cmd == nil:
		c.W.Error("ERR Invalid command specified")
	case cmd.FirstKey == 0:
		c.W.Error("ERR The command has no key arguments")
	case !cmd.takes(len(args)):
		c.W.Error("ERR Invalid number of arguments specified for command")
	default:
		keys := cmd.Keys(args)
		c.W.Array(len(keys))
		for _, key := range keys {
			c.W.Bulk(key)
		}
	}
}

// Keys are the keys among the arguments of a command that [Check] let pass.
func (cmd *Command) Keys(args [][]byte) (keys [][]byte) {
	if cmd.FirstKey == 0 {
		return nil
	}
	last := cmd.LastKey
	if last < 0 {
		last += len(args)
	}
	for i := cmd.FirstKey; i <= last; i += cmd.Step {
		keys = append(keys, args[i])
	}
	return keys
}

// help answers for every command with subcommands, out of their entries.
func help(c *Ctx) {
	container := Lookup(c.Args[0])
	c.W.Array(1 + 2*len(container.Sub))
	c.W.Status(strings.ToUpper(container.Name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, s := range container.Sub {
		c.W.Status(strings.ToUpper(s.Name[len(container.Name)+1:]))
		c.W.Status("    " + s.Summary + ".")
	}
}
