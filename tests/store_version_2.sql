-- A store of a measurement and a prediction, dumped from one that wpk-envs 0.1.0 made (schema version 2).
PRAGMA application_id = 1464879941;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE devices (
        fingerprint TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        info TEXT NOT NULL  -- JSON, every field of DeviceInfo: kind, target, limits, threads, versions
    );
INSERT INTO "devices" VALUES('0b2996567f9be493','Test CPU','{"kind": "cpu", "name": "Test CPU", "target": {"kind": "llvm", "mcpu": "native"}, "limits": {"vector_lanes": 16}, "threads": 1, "versions": {"tvm": "0.27"}}');
CREATE TABLE operators (
        key TEXT PRIMARY KEY,
        label TEXT NOT NULL,
        fields TEXT NOT NULL  -- JSON, Operator.to_dict()
    );
INSERT INTO "operators" VALUES('822986378023025b','conv2d 64x56x56 -> 64, 3x3','{"kind": "conv2d", "bias": false, "activation": "none", "residual": false, "dtype": "float32", "batch": 1, "channels": 64, "height": 56, "width": 56, "filters": 64, "kernel": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}');
CREATE TABLE records (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        created TEXT NOT NULL,  -- UTC, ISO 8601
        candidate TEXT NOT NULL,  -- Candidate.key: operator, template, its version, config
        operator TEXT NOT NULL REFERENCES operators (key),
        device TEXT NOT NULL REFERENCES devices (fingerprint),
        template TEXT NOT NULL,
        template_version INTEGER NOT NULL,
        config TEXT NOT NULL,  -- JSON
        samples_us TEXT NOT NULL,  -- JSON, every sample
        baseline_us TEXT NOT NULL,  -- JSON, the baseline's sample beside each
        baseline_name TEXT NOT NULL,
        latency_us REAL,  -- median of the samples; null if nothing was measured
        speedup REAL,  -- median over the pairs; null without a baseline
        predicted_latency_us REAL,  -- a model's latency, never in the columns above
        confidence TEXT NOT NULL,
        error TEXT,
        message TEXT NOT NULL,
        max_error REAL,
        layouts TEXT NOT NULL,  -- JSON
        build_seconds REAL NOT NULL,
        measure_seconds REAL NOT NULL,
        details TEXT NOT NULL DEFAULT '{}'  -- JSON; since version 2
    );
INSERT INTO "records" VALUES(1,'2026-11-22T21:30:16.841+00:00','bbc64975bb2690eb','822986378023025b','0b2996567f9be493','cpu/direct_conv',1,'{"template": "direct_conv", "tile": 1}','[2.0, 2.5]','[4.0, 5.0]','onednn blocked',2.25,2.0,NULL,'',NULL,'',NULL,'{"x": "NCHW"}',0.0,0.0,'{"registers": 32}');
INSERT INTO "records" VALUES(2,'2026-11-22T21:30:16.849+00:00','44113064ccb83e3b','822986378023025b','0b2996567f9be493','cpu/direct_conv',1,'{"template": "direct_conv", "tile": 2}','[]','[]','',NULL,NULL,3.0,'low',NULL,'',NULL,'{}',0.0,0.0,'{}');
CREATE INDEX records_by_candidate ON records (candidate, device);
CREATE INDEX records_by_operator ON records (operator, device);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('records',2);
COMMIT;
