// Package config reads a node's settings from a file, the environment and flags, and prints them.
//
// A setting has one name everywhere. What is closer to the process wins: flags override the environment, and that
// overrides the file. All of it comes from the tags of [Settings].
package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"
)

// FileFlag is the name of the flag with the path of the file; in the environment it is WHALE_CONFIG.
const FileFlag = "config"

// Key describes one setting.
type Key struct {
	Name    string // the flag, without dashes, and the key in the file
	Env     string
	Type    string // as pflag calls it
	Default string // empty: none, or described in Help
	Help    string
	Secret  bool // not to be printed
}

// Env is the name of a setting in the environment.
func Env(name string) string {
	return "WHALE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Keys are all settings in the order of the struct.
func Keys() (keys []Key) {
	var s Settings
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.Bind(fs)
	each(&s, func(_ any, tag reflect.StructTag) {
		name := tag.Get("name")
		_, secret := tag.Lookup("secret")
		keys = append(keys, Key{Name: name, Env: Env(name), Type: fs.Lookup(name).Value.Type(), Default: tag.Get("default"), Help: tag.Get("help"), Secret: secret})
	})
	return keys
}

// each calls f with a pointer to each field, and its tags.
func each(s *Settings, f func(field any, tag reflect.StructTag)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		f(v.Field(i).Addr().Interface(), v.Type().Field(i).Tag)
	}
}

// RedisAddress is where the node serves Redis clients, host:port.
func (s *Settings) RedisAddress() string {
	if s.Listen != "" {
		return s.Listen
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
}

// Bind sets the defaults and makes a flag for each setting, and --config.
func (s *Settings) Bind(fs *pflag.FlagSet) {
	fs.String(FileFlag, "", "file with settings, TOML: a key is the name of a flag without its dashes; flags and WHALE_* in the environment override it")
	each(s, func(field any, tag reflect.StructTag) {
		name, help := tag.Get("name"), tag.Get("help")
		switch p := field.(type) {
		case *int:
			fs.IntVar(p, name, 0, help)
		case *int64:
			fs.Int64Var(p, name, 0, help)
		case *bool:
			fs.BoolVar(p, name, false, help)
		case *string:
			fs.StringVar(p, name, "", help)
		case *[]string:
			fs.StringSliceVar(p, name, nil, help)
		case *time.Duration:
			fs.DurationVar(p, name, 0, help)
		case pflag.Value:
			fs.Var(p, name, help)
		default:
			panic(fmt.Sprintf("config: setting %s has the type %T, which Bind does not know", name, field))
		}
		if text := tag.Get("default"); text != "" {
			flag := fs.Lookup(name)
			if err := flag.Value.Set(text); err != nil {
				panic(fmt.Sprintf("config: the default of %s: %v", name, err))
			}
			flag.DefValue = flag.Value.String()
		}
	})
}

// Load completes settings whose flags have been parsed by fs, which [Settings.Bind] made, with those of the environment
// (as [os.Environ] has it) and of the file that --config or WHALE_CONFIG names. All of them are checked, also those that
// a flag overrides, and a WHALE_* that is no setting is an error. An error names the file and line, or the variable, and the
// setting.
func (s *Settings) Load(fs *pflag.FlagSet, environ []string) error {
	path, err := fs.GetString(FileFlag)
	if err != nil {
		return err
	}
	env, err := ours(environ)
	if err != nil {
		return err
	}
	if name, ok := env[Env(FileFlag)]; ok && path == "" {
		path = name
	}
	var t Settings
	below := pflag.NewFlagSet("", pflag.ContinueOnError)
	t.Bind(below)
	from := map[string]int{} // where a setting comes from: 1 the file, 2 the environment, 3 a flag
	if path != "" {
		if err := readFile(path, below, from); err != nil {
			return err
		}
	}
	for _, key := range Keys() {
		if text, ok := env[key.Env]; ok {
			if err := set(below.Lookup(key.Name), text); err != nil {
				return fmt.Errorf("%s=%q in the environment: %w", key.Env, text, err)
			}
			from[key.Name] = 2
		}
	}
	mine, theirs := reflect.ValueOf(s).Elem(), reflect.ValueOf(t)
	for i := range mine.NumField() {
		if name := mine.Type().Field(i).Tag.Get("name"); fs.Changed(name) {
			from[name] = 3
		} else {
			mine.Field(i).Set(theirs.Field(i))
		}
	}
	// Both name the port: the one that is closer counts.
	switch listen, port := from["listen"], from["port"]; {
	case listen == 0 || port == 0:
	case listen == port:
		return fmt.Errorf("both listen (%s) and port (%d) are set: leave one of them out", s.Listen, s.Port)
	case port > listen:
		s.Listen = ""
	}
	return nil
}

// forTests are how the variables begin that the project's own tests have: a node that they start may inherit them.
var forTests = []string{"WHALE_E2E", "WHALE_EVAL_", "WHALE_MIRROR_", "WHALE_SHM_", "WHALE_SIM", "WHALE_TEST_", "WHALE_VERBS_"}

// ours are the settings in an environment.
func ours(environ []string) (map[string]string, error) {
	known := map[string]bool{Env(FileFlag): true}
	for _, key := range Keys() {
		known[key.Env] = true
	}
	found := map[string]string{}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		ofTests := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
		switch {
		case known[name]:
			found[name] = text
		case strings.HasPrefix(name, "WHALE_") && !slices.ContainsFunc(forTests, ofTests):
			return nil, fmt.Errorf("%s=%q in the environment: there is no such setting; whale config prints all there are", name, text)
		}
	}
	return found, nil
}

// set replaces the value that the flag has.
func set(flag *pflag.Flag, text string) error {
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		return list.Replace(strings.Split(text, ","))
	}
	if err := flag.Value.Set(text); err != nil {
		return fmt.Errorf("expected a value of the type %s: %w", flag.Value.Type(), err)
	}
	return nil
}

func readFile(path string, fs *pflag.FlagSet, from map[string]int) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--%s: %w", FileFlag, err)
	}
	var values map[string]any
	if _, err := toml.Decode(string(text), &values); err != nil {
		var parse toml.ParseError
		if errors.As(err, &parse) {
			return fmt.Errorf("%s:%d: %s", path, parse.Position.Line, parse.Message)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		flag := fs.Lookup(name)
		if flag == nil || name == FileFlag {
			return fmt.Errorf("%s:%d: unknown setting %q; whale config prints all there are", path, line(text, name), name)
		}
		if err := setTOML(flag, values[name]); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", path, line(text, name), name, err)
		}
		from[name] = 1
	}
	return nil
}

// setTOML takes a value as the file has it. Numbers and truth values do not stand in quotes; a size may be a number.
func setTOML(flag *pflag.Flag, value any) error {
	kind := flag.Value.Type()
	number, bit := kind == "int" || kind == "int64", kind == "bool"
	list, isList := flag.Value.(pflag.SliceValue)
	switch v := value.(type) {
	case []any:
		items := make([]string, len(v))
		for i := range v {
			s, ok := v[i].(string)
			if !ok {
				return fmt.Errorf("expected a list of strings, not %v", v)
			}
			items[i] = s
		}
		if isList {
			return list.Replace(items)
		}
	case string:
		if !number && !bit && !isList {
			return set(flag, v)
		}
	case int64:
		if number || kind == "size" {
			return set(flag, strconv.FormatInt(v, 10))
		}
	case bool:
		if bit {
			return set(flag, strconv.FormatBool(v))
		}
	}
	return fmt.Errorf("expected a value of the type %s, not %v", kind, value)
}

// line is where the file has the key; the library tells it for errors of syntax only.
func line(text []byte, key string) int {
	re := regexp.MustCompile(`(?m)^[ \t]*\[*[ \t]*["']?` + regexp.QuoteMeta(key) + `["']?[ \t]*[=.\]]`)
	at := re.FindIndex(text)
	if at == nil {
		return 1
	}
	return 1 + strings.Count(string(text[:at[0]]), "\n")
}

// Write prints the settings as a file that [Settings.Load] reads, a comment above each key. What has no value, and what
// is secret, is commented out.
func (s *Settings) Write(w io.Writer) error {
	var b strings.Builder
	keys := Keys()
	i := 0
	each(s, func(field any, _ reflect.StructTag) {
		key := keys[i]
		i++
		if i > 1 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n# --%s, %s", sentence(key.Help), key.Name, key.Env)
		if key.Default != "" {
			fmt.Fprintf(&b, "; default %s", key.Default)
		}
		b.WriteString("\n")
		value, empty := literal(field)
		empty = empty || key.Name == "port" && s.Listen != ""
		switch {
		case key.Secret && !empty:
			fmt.Fprintf(&b, "# %s is set and not shown\n", key.Name)
		case empty:
			fmt.Fprintf(&b, "# %s = %s\n", key.Name, value)
		default:
			fmt.Fprintf(&b, "%s = %s\n", key.Name, value)
		}
	})
	_, err := io.WriteString(w, b.String())
	return err
}

func sentence(help string) string { return strings.ToUpper(help[:1]) + help[1:] + "." }

// literal is a field as TOML has it. empty: it says nothing, because a value of its own or another setting takes its place.
func literal(field any) (text string, empty bool) {
	switch p := field.(type) {
	case *int:
		return strconv.Itoa(*p), false
	case *int64:
		return strconv.FormatInt(*p, 10), false
	case *bool:
		return strconv.FormatBool(*p), false
	case *time.Duration:
		return strconv.Quote(p.String()), false
	case *string:
		return quote(*p), *p == ""
	case *[]string:
		var items []string
		for _, item := range *p {
			items = append(items, quote(item))
		}
		return "[" + strings.Join(items, ", ") + "]", len(*p) == 0
	case *Size:
		return quote(p.String()), *p == 0
	}
	panic(fmt.Sprintf("config: a setting has the type %T, which Write does not know", field))
}

// quote makes a basic string of TOML.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
