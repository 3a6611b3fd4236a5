# bash completion for cass2es; printed by the program.
_cass2es() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=""
    case ${COMP_WORDS[1]} in
    sync) words=" --cassandra-hosts --cassandra-port --cassandra-username --cassandra-password --cassandra-password-file --keyspace --table --local-dc --address-map --consistency --cassandra-compression --cassandra-protocol --cassandra-tls --no-cassandra-tls --cassandra-ca-file --cassandra-cert-file --cassandra-key-file --cassandra-server-name --cassandra-insecure --no-cassandra-insecure --cassandra-connect-timeout --cassandra-request-timeout --endpoint --sync-api-key --sync-api-key-file --block-size --pause --await --no-await --ca-file --sync-api-max-body --id-file --csv-column --id-form --id-column --object-type --dry-run --no-dry-run --workers --scan-workers --memory --to --index --where --columns --limit --sample --bulk-size --max-docs-per-s --max-reads-per-s --missing --max-skew --fresh --no-fresh --change-versioning --strict-values --no-strict-values --elastic-url --elastic-username --elastic-password --elastic-password-file --elastic-api-key --elastic-api-key-file --elastic-bearer --elastic-bearer-file --elastic-ca-file --elastic-cert-file --elastic-key-file --compress --mapping --profiles-dir --http-connect-timeout --request-timeout --log-dir --state-dir --keep-runs --retry-budget --log-level --log-format --json --no-json --progress --config --help --context_param" ;;
    serve) words=" --cassandra-hosts --cassandra-port --cassandra-username --cassandra-password --cassandra-password-file --keyspace --local-dc --address-map --consistency --cassandra-compression --cassandra-protocol --cassandra-tls --no-cassandra-tls --cassandra-ca-file --cassandra-cert-file --cassandra-key-file --cassandra-server-name --cassandra-insecure --no-cassandra-insecure --cassandra-connect-timeout --cassandra-request-timeout --max-skew --change-versioning --elastic-url --elastic-username --elastic-password --elastic-password-file --elastic-api-key --elastic-api-key-file --elastic-bearer --elastic-bearer-file --elastic-ca-file --elastic-cert-file --elastic-key-file --compress --mapping --profiles-dir --listen --sync-timeout --dialect --serve-queue-ids --serve-max-body --serve-threads --keys-file --filter-scan --whole-table --grace --serve-client-timeout --serve-max-connections --serve-keep-ids --http-connect-timeout --request-timeout --state-dir --keep-runs --retry-budget --log-level --log-format --json --no-json --config --help --context_param" ;;
    init) words=" --cassandra-hosts --cassandra-port --cassandra-username --cassandra-password --cassandra-password-file --keyspace --table --local-dc --address-map --consistency --cassandra-compression --cassandra-protocol --cassandra-tls --no-cassandra-tls --cassandra-ca-file --cassandra-cert-file --cassandra-key-file --cassandra-server-name --cassandra-insecure --no-cassandra-insecure --cassandra-connect-timeout --cassandra-request-timeout --index --elastic-url --elastic-username --elastic-password --elastic-password-file --elastic-api-key --elastic-api-key-file --elastic-bearer --elastic-bearer-file --elastic-ca-file --elastic-cert-file --elastic-key-file --compress --out --create --mapping --profiles-dir --http-connect-timeout --request-timeout --state-dir --log-level --log-format --json --no-json --config --help --context_param" ;;
    check) words=" --cassandra-hosts --cassandra-port --cassandra-username --cassandra-password --cassandra-password-file --keyspace --table --local-dc --address-map --consistency --cassandra-compression --cassandra-protocol --cassandra-tls --no-cassandra-tls --cassandra-ca-file --cassandra-cert-file --cassandra-key-file --cassandra-server-name --cassandra-insecure --no-cassandra-insecure --cassandra-connect-timeout --cassandra-request-timeout --endpoint --sync-api-key --sync-api-key-file --block-size --pause --await --no-await --ca-file --sync-api-max-body --id-file --csv-column --id-form --id-column --object-type --dry-run --no-dry-run --workers --scan-workers --memory --to --index --where --columns --limit --sample --bulk-size --max-docs-per-s --max-reads-per-s --missing --max-skew --strict-values --no-strict-values --elastic-url --elastic-username --elastic-password --elastic-password-file --elastic-api-key --elastic-api-key-file --elastic-bearer --elastic-bearer-file --elastic-ca-file --elastic-cert-file --elastic-key-file --compress --mapping --profiles-dir --listen --sync-timeout --dialect --serve-queue-ids --serve-max-body --serve-threads --keys-file --filter-scan --whole-table --grace --serve-client-timeout --serve-max-connections --serve-keep-ids --http-connect-timeout --request-timeout --log-dir --state-dir --keep-runs --retry-budget --log-level --log-format --json --no-json --show --print-config --config --help --context_param" ;;
    runs) words="list show --state-dir --log-level --log-format --json --no-json --config --help" ;;
    failures) words="list show --cassandra-hosts --cassandra-port --cassandra-username --cassandra-password --cassandra-password-file --keyspace --local-dc --address-map --consistency --cassandra-compression --cassandra-protocol --cassandra-tls --no-cassandra-tls --cassandra-ca-file --cassandra-cert-file --cassandra-key-file --cassandra-server-name --cassandra-insecure --no-cassandra-insecure --cassandra-connect-timeout --cassandra-request-timeout --endpoint --sync-api-key --sync-api-key-file --block-size --pause --await --no-await --ca-file --workers --scan-workers --memory --limit --bulk-size --max-docs-per-s --max-reads-per-s --missing --max-skew --fresh --no-fresh --change-versioning --elastic-url --elastic-username --elastic-password --elastic-password-file --elastic-api-key --elastic-api-key-file --elastic-bearer --elastic-bearer-file --elastic-ca-file --elastic-cert-file --elastic-key-file --compress --mapping --profiles-dir --http-connect-timeout --request-timeout --log-dir --state-dir --keep-runs --retry-budget --log-level --log-format --json --no-json --progress --reason --config --help --context_param" ;;
    esac
    [ "$COMP_CWORD" -gt 1 ] || words="--help --version sync serve init check runs failures help version"
    case $before in
    --config) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --context_param) compopt -o nospace; words="sunbird_cassandra_server= sunbird_cassandra_port= sunbird_cassandra_username= sunbird_cassandra_password= sunbird_cassandra_keyspace= sunbird_cassandra_table= sunbird_sync_api_endpoint= sunbird_sync_api_key= sunbird_sync_block_size= sunbird_sync_sleep_time= sunbird_sync_id_file= sunbird_sync_object_type= dry_run= " ;;
    --cassandra-hosts) return ;;
    --cassandra-port) return ;;
    --cassandra-username) return ;;
    --cassandra-password) return ;;
    --cassandra-password-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --keyspace) return ;;
    --table) return ;;
    --local-dc) return ;;
    --address-map) return ;;
    --consistency) words="local_quorum local_one one two three quorum all" ;;
    --cassandra-compression) words="none lz4" ;;
    --cassandra-protocol) return ;;
    --cassandra-ca-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --cassandra-cert-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --cassandra-key-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --cassandra-server-name) return ;;
    --cassandra-connect-timeout) return ;;
    --cassandra-request-timeout) return ;;
    --endpoint) return ;;
    --sync-api-key) return ;;
    --sync-api-key-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --block-size) return ;;
    --pause) return ;;
    --ca-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --sync-api-max-body) return ;;
    --id-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --csv-column) return ;;
    --id-form) words="auto string object object-per-block" ;;
    --id-column) return ;;
    --object-type) return ;;
    --workers) return ;;
    --scan-workers) return ;;
    --memory) return ;;
    --to) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --index) return ;;
    --where) return ;;
    --columns) return ;;
    --limit) return ;;
    --sample) return ;;
    --bulk-size) return ;;
    --max-docs-per-s) return ;;
    --max-reads-per-s) return ;;
    --missing) words="report keep delete" ;;
    --max-skew) return ;;
    --elastic-url) return ;;
    --elastic-username) return ;;
    --elastic-password) return ;;
    --elastic-password-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --elastic-api-key) return ;;
    --elastic-api-key-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --elastic-bearer) return ;;
    --elastic-bearer-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --elastic-ca-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --elastic-cert-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --elastic-key-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --compress) words="auto off gzip" ;;
    --out) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --mapping) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --profiles-dir) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --listen) return ;;
    --sync-timeout) return ;;
    --dialect) words="auto lms userorg" ;;
    --serve-queue-ids) return ;;
    --serve-max-body) return ;;
    --serve-threads) return ;;
    --keys-file) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --filter-scan) words="refuse allow" ;;
    --whole-table) words="refuse allow" ;;
    --grace) return ;;
    --serve-client-timeout) return ;;
    --serve-max-connections) return ;;
    --serve-keep-ids) return ;;
    --http-connect-timeout) return ;;
    --request-timeout) return ;;
    --log-dir) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --state-dir) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --keep-runs) return ;;
    --retry-budget) return ;;
    --log-level) words="error warn info debug" ;;
    --log-format) words="text json" ;;
    --progress) words="auto bar plain none" ;;
    --reason) return ;;
    --show) return ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _cass2es cass2es
