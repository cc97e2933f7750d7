package command

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// Place is where a command runs.
type Place uint8

const (
	Here     Place = iota // on the node that got it, without the store
	Read                  // on the node that got it: reads only
	Primary               // at the primary: reads what only the primary knows
	Write                 // at the primary: writes
	Transact              // at the primary: WATCH and EXEC, which the client's node prepares ([Client.Watch], [Client.Exec])
)

// Command is one entry of the table. Entries are constant.
type Command struct {
	Name  string // in lower case; "client|id" for a subcommand
	Arity int    // number of arguments, name included; negative: at least so many
	Place Place
	Run   func(*Ctx)
	Sub   []*Command // subcommands: the entry's own Run calls the one that argument 1 names
	index int

	// For COMMAND INFO.

	Flags                   []string
	FirstKey, LastKey, Step int // positions of the keys; a negative LastKey counts from the end; 0: no keys
	KeyFlags                []string
	SecondKeyFlags          []string // of the second key, where it is used otherwise than the first
	KeyNotes                string
	Categories              []string
	Tips                    []string

	// For COMMAND DOCS.

	Group, Since, Summary, Complexity string
}

// The table, in the order of its files, and the open-addressed hash over it that Lookup uses. Filled by init because
// COMMAND, an entry itself, lists it.
var (
	all      []*Command
	lookup   []*Command
	lookupBy uint // shift that takes a hash to a position in lookup
)

func init() {
	for _, group := range [][]*Command{stringCommands, stringTTLCommands, substringCommands, keyspaceCommands, renameCommands, expireCommands, scanCommands, objectCommands, multiCommands,
		connectionCommands, clientCommands, serverCommands, introspectionCommands, configCommands, aclCommands, slowlogCommands, latencyCommands, operatorCommands} {
		all = append(all, group...)
	}
	size := 1 << bits.Len(uint(len(all)*4)) // at most a quarter full: nearly every name is found at the first try
	lookup = make([]*Command, size)
	lookupBy = uint(64 - bits.TrailingZeros(uint(size)))
	for n, cmd := range all {
		cmd.index = n
		for _, s := range cmd.Sub {
			s.index = n
		}
		i := hashName([]byte(cmd.Name)) >> lookupBy
		for lookup[i] != nil {
			i = (i + 1) % uint64(size)
		}
		lookup[i] = cmd
	}
}

// All is every command, without subcommands, in a fixed order. Not to be changed.
func All() []*Command { return all }

// Resolve is the entry that says where the command runs and what it is: that of the subcommand, if there are any. Needs
// arguments that [Check] let pass.
func (cmd *Command) Resolve(args [][]byte) *Command {
	if len(cmd.Sub) > 0 && len(args) > 1 {
		return cmd.sub(args[1])
	}
	return cmd
}

// Index is the command's place in [All]; subcommands have that of their container.
func (cmd *Command) Index() int { return cmd.index }

// Top is the name without that of the subcommand.
func (cmd *Command) Top() string { return all[cmd.index].Name }

// NoAuth says whether a client may send the command before it has authenticated.
func (cmd *Command) NoAuth() bool { return slices.Contains(cmd.Flags, "no_auth") }

// Lookup finds a command by its name in any case; nil: there is none. It does not allocate.
func Lookup(name []byte) *Command {
	for i := hashName(name) >> lookupBy; lookup[i] != nil; i = (i + 1) % uint64(len(lookup)) {
		if equalFold(name, lookup[i].Name) {
			return lookup[i]
		}
	}
	return nil
}

// hashName mixes the length and the first and last eight bytes. Setting bit 5 everywhere makes letters lower-case; that
// other bytes fall together does no harm to a hash.
func hashName(name []byte) uint64 {
	const lower = 0x2020202020202020
	var head, tail uint64
	if n := len(name); n >= 8 {
		head = binary.LittleEndian.Uint64(name)
		tail = binary.LittleEndian.Uint64(name[n-8:])
	} else {
		for _, c := range name {
			head = head<<8 | uint64(c)
		}
	}
	h := (head | lower) ^ bits.RotateLeft64(tail|lower, 29) ^ uint64(len(name))
	return h * 0x9e3779b97f4a7c15
}

// sub finds the subcommand that name calls.
func (cmd *Command) sub(name []byte) *Command {
	for _, s := range cmd.Sub {
		if equalFold(name, s.Name[len(cmd.Name)+1:]) {
			return s
		}
	}
	return nil
}

// runSub is the Run of commands with subcommands. Check has seen that the one named exists.
func runSub(c *Ctx) { Lookup(c.Args[0]).sub(c.Args[1]).Run(c) }

// Check says what is wrong with a command before it is run: it is unknown (cmd is nil), or has the wrong number of
// arguments. Empty: nothing. args has at least the name.
func Check(cmd *Command, args [][]byte) (errText string) {
	if cmd != nil && len(cmd.Sub) > 0 && len(args) > 1 {
		container := cmd
		if cmd = container.sub(args[1]); cmd == nil {
			return "ERR unknown subcommand '" + cString(args[1], 128) + "'. Try " + strings.ToUpper(container.Name) + " HELP."
		}
	}
	if cmd == nil {
		return unknownCommand(args)
	}
	if !cmd.takes(len(args)) {
		return wrongArity(cmd.Name)
	}
	return ""
}

func (cmd *Command) takes(args int) bool {
	return args == cmd.Arity || cmd.Arity < 0 && args >= -cmd.Arity
}

func wrongArity(name string) string {
	return "ERR wrong number of arguments for '" + name + "' command"
}

// unknownCommand quotes the beginning of what came, 128 bytes of the name and about as many of the arguments.
func unknownCommand(args [][]byte) string {
	var quoted strings.Builder
	for _, a := range args[1:] {
		if quoted.Len() >= 128 {
			break
		}
		quoted.WriteString("'" + cString(a, 128-quoted.Len()) + "' ")
	}
	return "ERR unknown command '" + cString(args[0], 128) + "', with args beginning with: " + quoted.String()
}

// cString is what C's printf would show of b: at most n bytes, and none from the first zero byte on.
func cString(b []byte, n int) string {
	s, _, _ := strings.Cut(string(b[:min(n, len(b))]), "\x00")
	return s
}

// words splits the lists in the tables.
func words(s string) []string { return strings.Fields(s) }
