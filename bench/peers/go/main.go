// bench/peers/go - the Go peer: every row of a table as a document into Elasticsearch.
//
//	go-peer [--plain] HOST:PORT USER PASSWORD KEYSPACE.TABLE URL INDEX WORKERS DOCS_PER_BULK
//
// gocql gives each cell's bytes to a raw (an Unmarshaler), and they are appended to the bulk body as JSON: nothing is
// allocated per value. --plain does what most programs do instead: MapScan, and encoding/json. One page makes one body;
// gocql fetches the next page in between. Bodies are sent by net/http as the esutil indexer does: a body at a time from
// each worker.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

type job struct {
	session *gocql.Session
	client  *http.Client
	text    string
	key     string
	url     string
	docs    int
	plain   bool
	ranges  [][2]int64
	next    int64
	sent    int64
}

// A cell's bytes; they are gocql's, valid until the next page.
type raw struct {
	info gocql.TypeInfo
	data []byte
}

func (r *raw) UnmarshalCQL(info gocql.TypeInfo, data []byte) error {
	r.info, r.data = info, data
	return nil
}

func main() {
	args := os.Args[1:]
	j := &job{}
	if len(args) > 0 && args[0] == "--plain" {
		j.plain, args = true, args[1:]
	}
	if len(args) != 8 {
		fmt.Fprintln(os.Stderr, "usage: go-peer [--plain] HOST:PORT USER PASSWORD KEYSPACE.TABLE URL INDEX WORKERS DOCS_PER_BULK")
		os.Exit(2)
	}
	if err := j.run(args); err != nil {
		fmt.Fprintln(os.Stderr, "go-peer:", err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "documents", j.sent)
}

func (j *job) run(args []string) error {
	host, port, err := net.SplitHostPort(args[0])
	if err != nil {
		return err
	}
	cluster := gocql.NewCluster(host)
	cluster.Port, _ = strconv.Atoi(port)
	cluster.Authenticator = gocql.PasswordAuthenticator{Username: args[1], Password: args[2]}
	cluster.Consistency = gocql.LocalQuorum
	cluster.Timeout = 30 * time.Second
	if j.session, err = cluster.CreateSession(); err != nil {
		return err
	}
	defer j.session.Close()
	keyspace, table, _ := strings.Cut(args[3], ".")
	if err = j.readKey(keyspace, table); err != nil {
		return err
	}
	if err = j.readRanges(); err != nil {
		return err
	}
	j.url = strings.TrimRight(args[4], "/") + "/" + args[5] + "/_bulk?filter_path=errors,items.*.status"
	workers, _ := strconv.Atoi(args[6])
	j.docs, _ = strconv.Atoi(args[7])
	j.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: workers, WriteBufferSize: 64 << 10}}
	failed := make(chan error, workers)
	var group sync.WaitGroup
	for i := 0; i < workers; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := j.work(); err != nil {
				failed <- err
			}
		}()
	}
	group.Wait()
	select {
	case err = <-failed:
	default:
	}
	return err
}

func (j *job) readKey(keyspace, table string) error {
	var name, kind string
	var keys []string
	places := map[string]int{}
	var place int
	iter := j.session.Query("SELECT column_name, kind, position FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
		keyspace, table).Iter()
	for iter.Scan(&name, &kind, &place) {
		if kind == "partition_key" {
			keys, places[name] = append(keys, name), place
		}
	}
	if err := iter.Close(); err != nil {
		return err
	}
	if len(keys) == 0 {
		return errors.New("no such table")
	}
	sort.Slice(keys, func(a, b int) bool { return places[keys[a]] < places[keys[b]] })
	j.key = keys[0]
	list := strings.Join(keys, ", ")
	j.text = fmt.Sprintf("SELECT * FROM %s.%s WHERE token(%s) > ? AND token(%s) <= ?", keyspace, table, list, list)
	return nil
}

// The ranges between the ring's tokens, each in four parts.
func (j *job) readRanges() error {
	ends := []int64{math.MinInt64, math.MaxInt64}
	for _, text := range []string{"SELECT tokens FROM system.local", "SELECT tokens FROM system.peers"} {
		var tokens []string
		iter := j.session.Query(text).Iter()
		for iter.Scan(&tokens) {
			for _, t := range tokens {
				n, err := strconv.ParseInt(t, 10, 64)
				if err != nil {
					return err
				}
				ends = append(ends, n)
			}
		}
		if err := iter.Close(); err != nil {
			return err
		}
	}
	sort.Slice(ends, func(a, b int) bool { return ends[a] < ends[b] })
	for i := 1; i < len(ends); i++ {
		if ends[i] == ends[i-1] {
			continue
		}
		step := (uint64(ends[i]) - uint64(ends[i-1])) / 4
		at := ends[i-1]
		for part := 1; part <= 4; part++ {
			end := int64(uint64(at) + step)
			if part == 4 {
				end = ends[i]
			}
			j.ranges = append(j.ranges, [2]int64{at, end})
			at = end
		}
	}
	return nil
}

func (j *job) work() error {
	var body []byte
	for {
		n := atomic.AddInt64(&j.next, 1) - 1
		if n >= int64(len(j.ranges)) {
			return nil
		}
		r := j.ranges[n]
		version := time.Now().UnixMicro() // not later than the page was asked for
		began := version
		iter := j.session.Query(j.text, r[0], r[1]).PageSize(j.docs).Prefetch(0.5).Iter()
		docs := 0
		write := j.rawWriter(iter)
		if j.plain {
			write = j.plainWriter(iter)
		}
		for {
			more := true
			body, more = write(body, version)
			if more {
				docs++
			}
			if docs == j.docs || (!more && docs > 0) {
				if err := j.send(body, docs); err != nil {
					return err
				}
				body, docs, version = body[:0], 0, began
				began = time.Now().UnixMicro() // the page after the next is asked for in the midst of the next
			}
			if !more {
				break
			}
		}
		if err := iter.Close(); err != nil {
			return err
		}
	}
}

func (j *job) send(body []byte, docs int) error {
	answer, err := j.client.Post(j.url, "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != 200 || !bytes.HasPrefix(text, []byte(`{"errors":false`)) {
		return fmt.Errorf("_bulk: %s: %.300s", answer.Status, text)
	}
	if items := bytes.Count(text, []byte(`"status":`)); items != docs {
		return fmt.Errorf("_bulk: %d items for %d documents", items, docs)
	}
	atomic.AddInt64(&j.sent, int64(docs))
	return nil
}

// --- rows to JSON ------------------------------------------------------------------------------------

// Appends the next row's two lines; false: there are no more rows.
type writer func(body []byte, version int64) ([]byte, bool)

func (j *job) plainWriter(iter *gocql.Iter) writer {
	return func(body []byte, version int64) ([]byte, bool) {
		row := map[string]interface{}{}
		if !iter.MapScan(row) {
			return body, false
		}
		source, err := json.Marshal(row)
		if err != nil {
			panic(err)
		}
		body = append(body, fmt.Sprintf(`{"index":{"_id":"%v","version":%d,"version_type":"external_gte"}}`+"\n", row[j.key], version)...)
		return append(append(body, source...), '\n'), true
	}
}

func (j *job) rawWriter(iter *gocql.Iter) writer {
	columns := iter.Columns()
	cells := make([]raw, len(columns))
	into := make([]interface{}, len(columns))
	names := make([]string, len(columns))
	key := 0
	for i, c := range columns {
		into[i], names[i] = &cells[i], `"`+c.Name+`":`
		if c.Name == j.key {
			key = i
		}
	}
	return func(body []byte, version int64) ([]byte, bool) {
		if !iter.Scan(into...) {
			return body, false
		}
		body = append(body, `{"index":{"_id":`...)
		body = appendKey(body, cells[key].info, cells[key].data)
		body = append(body, `,"version":`...)
		body = strconv.AppendInt(body, version, 10)
		body = append(body, `,"version_type":"external_gte"}}`+"\n{"...)
		first := true
		for i := range cells {
			if cells[i].data == nil {
				continue
			}
			if !first {
				body = append(body, ',')
			}
			first = false
			body = append(body, names[i]...)
			body = appendValue(body, cells[i].info, cells[i].data)
		}
		return append(body, "}\n"...), true
	}
}

// A value as a text.
func appendKey(body []byte, info gocql.TypeInfo, data []byte) []byte {
	switch info.Type() {
	case gocql.TypeInt, gocql.TypeBigInt, gocql.TypeSmallInt, gocql.TypeTinyInt, gocql.TypeBoolean, gocql.TypeDouble, gocql.TypeFloat:
		return append(appendValue(append(body, '"'), info, data), '"')
	}
	return appendValue(body, info, data)
}

func appendValue(body []byte, info gocql.TypeInfo, data []byte) []byte {
	switch info.Type() {
	case gocql.TypeText, gocql.TypeVarchar, gocql.TypeAscii:
		return appendString(body, data)
	case gocql.TypeBoolean:
		return strconv.AppendBool(body, data[0] != 0)
	case gocql.TypeTinyInt:
		return strconv.AppendInt(body, int64(int8(data[0])), 10)
	case gocql.TypeSmallInt:
		return strconv.AppendInt(body, int64(int16(binary.BigEndian.Uint16(data))), 10)
	case gocql.TypeInt:
		return strconv.AppendInt(body, int64(int32(binary.BigEndian.Uint32(data))), 10)
	case gocql.TypeBigInt, gocql.TypeCounter:
		return strconv.AppendInt(body, int64(binary.BigEndian.Uint64(data)), 10)
	case gocql.TypeDouble:
		return appendFloat(body, math.Float64frombits(binary.BigEndian.Uint64(data)), 64)
	case gocql.TypeFloat:
		return appendFloat(body, float64(math.Float32frombits(binary.BigEndian.Uint32(data))), 32)
	case gocql.TypeUUID, gocql.TypeTimeUUID:
		return appendUUID(body, data)
	case gocql.TypeTimestamp:
		at := time.UnixMilli(int64(binary.BigEndian.Uint64(data))).UTC()
		return append(at.AppendFormat(append(body, '"'), "2006-01-02T15:04:05.000Z"), '"')
	case gocql.TypeList, gocql.TypeSet:
		element := info.(gocql.CollectionType).Elem
		n, rest := take(data)
		body = append(body, '[')
		for i := 0; i < n; i++ {
			size, tail := take(rest)
			if i > 0 {
				body = append(body, ',')
			}
			body, rest = appendValue(body, element, tail[:size]), tail[size:]
		}
		return append(body, ']')
	case gocql.TypeMap:
		types := info.(gocql.CollectionType)
		n, rest := take(data)
		body = append(body, '{')
		for i := 0; i < n; i++ {
			size, tail := take(rest)
			if i > 0 {
				body = append(body, ',')
			}
			body = append(appendKey(body, types.Key, tail[:size]), ':')
			size, tail = take(tail[size:])
			body, rest = appendValue(body, types.Elem, tail[:size]), tail[size:]
		}
		return append(body, '}')
	}
	panic(fmt.Sprint("no writer for ", info.Type()))
}

func take(data []byte) (int, []byte) {
	return int(int32(binary.BigEndian.Uint32(data))), data[4:]
}

func appendFloat(body []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(body, "null"...)
	}
	return strconv.AppendFloat(body, v, 'g', -1, bits)
}

const hex = "0123456789abcdef"

func appendUUID(body []byte, data []byte) []byte {
	body = append(body, '"')
	for i, b := range data {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			body = append(body, '-')
		}
		body = append(body, hex[b>>4], hex[b&15])
	}
	return append(body, '"')
}

func appendString(body []byte, text []byte) []byte {
	body = append(body, '"')
	from := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		body = append(body, text[from:i]...)
		from = i + 1
		if c < ' ' {
			body = append(body, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			body = append(body, '\\', c)
		}
	}
	return append(append(body, text[from:]...), '"')
}
