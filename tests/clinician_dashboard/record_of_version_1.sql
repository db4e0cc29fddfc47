BEGIN TRANSACTION;
CREATE TABLE cases (
	id INTEGER NOT NULL, 
	site VARCHAR(48) NOT NULL, 
	code VARCHAR(40) NOT NULL, 
	devices TEXT NOT NULL, 
	stat BOOLEAN NOT NULL, 
	opened_at DATETIME NOT NULL, 
	changed_at DATETIME NOT NULL, 
	first_result_at DATETIME, 
	revision INTEGER NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	recorded INTEGER NOT NULL, 
	waiting INTEGER NOT NULL, 
	referred INTEGER NOT NULL, 
	urgency VARCHAR(10) NOT NULL, 
	urgency_rank INTEGER NOT NULL, 
	decision VARCHAR(10) NOT NULL, 
	leading VARCHAR(10), 
	result JSON NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (site, code)
);
INSERT INTO "cases" VALUES(1,'ward','HL-0001','scope-1',0,'2026-01-31 12:00:00.000000','2026-11-22 23:26:40.899222','2026-11-22 23:26:40.899222',1,0,3,0,0,'critical',0,'report','AML','{"decision": "report", "urgency": "critical", "leading": "AML", "shares": {"healthy": {"probability": 0.037499999999999985, "low": 0.0010392676997534878, "high": 0.5933454866736636}, "ALL": {"probability": 0.037499999999999985, "low": 0.0010392676997534878, "high": 0.5933454866736636}, "AML": {"probability": 0.8500000000000001, "low": 0.3214933001163671, "high": 0.9854587776551011}, "CLL": {"probability": 0.037499999999999985, "low": 0.0010392676997534878, "high": 0.5933454866736636}, "CML": {"probability": 0.037499999999999985, "low": 0.0010392676997534878, "high": 0.5933454866736636}}, "counted": 3, "referred": 0, "effective": 3.0, "reasons": [], "models": 1}');
INSERT INTO "cases" VALUES(2,'ward','HL-0002','scope-1',0,'2026-01-31 12:00:03.000000','2026-11-22 23:26:40.917708',NULL,1,0,0,1,0,'waiting',4,'refer',NULL,'{"decision": "refer", "urgency": "waiting", "leading": null, "shares": {}, "counted": 0, "referred": 0, "effective": 0.0, "reasons": ["No frame has been read yet."], "models": 0}');
CREATE TABLE devices (
	site VARCHAR(48) NOT NULL, 
	device VARCHAR(48) NOT NULL, 
	birth BIGINT NOT NULL, 
	presence VARCHAR(10) NOT NULL, 
	heard_at DATETIME NOT NULL, 
	state JSON NOT NULL, 
	PRIMARY KEY (site, device)
);
INSERT INTO "devices" VALUES('ward','scope-1',3,'online','2026-11-22 23:26:40.915043','{"schema_version": 1, "site": "ward", "device": "scope-1", "presence": "online", "birth": 3, "at": "2026-01-31T12:00:00Z", "software": "", "camera": "test camera", "simulated": false, "capturing": false, "case": null, "captured": 0, "quality_rejected": 0, "quality_reasons": {}, "spooled": 0, "spool_bytes": 0, "parked": 0, "settled": 0, "alarm": ""}');
CREATE TABLE diagnoses (
	id INTEGER NOT NULL, 
	frame_id VARCHAR(32) NOT NULL, 
	weights_sha256 VARCHAR(64) NOT NULL, 
	joined BOOLEAN NOT NULL, 
	case_code VARCHAR(40) NOT NULL, 
	site VARCHAR(48) NOT NULL, 
	device VARCHAR(48) NOT NULL, 
	worker VARCHAR(48) NOT NULL, 
	diagnosed_at DATETIME NOT NULL, 
	received_at DATETIME NOT NULL, 
	model JSON NOT NULL, 
	probabilities JSON NOT NULL, 
	prediction VARCHAR(10) NOT NULL, 
	prediction_set JSON NOT NULL, 
	decision VARCHAR(10) NOT NULL, 
	reasons JSON NOT NULL, 
	quality JSON NOT NULL, 
	ood_score DOUBLE NOT NULL, 
	ood_threshold DOUBLE NOT NULL, 
	activation JSON NOT NULL, 
	timings JSON NOT NULL, 
	image_sha256 VARCHAR(64) NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (frame_id, weights_sha256)
);
INSERT INTO "diagnoses" VALUES(1,'00000000000000000000000000000001','9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c',1,'HL-0001','ward','scope-1','worker-1','2026-01-31 12:01:00.000000','2026-11-22 23:26:40.891567','{"name": "resnet34-test", "version": "1.0.0", "weights_sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c", "architecture": "resnet34", "engine": "openvino-bf16", "training_data": "test images", "simulated": false}','{"healthy": 0.04999999999999999, "ALL": 0.04999999999999999, "AML": 0.8, "CLL": 0.04999999999999999, "CML": 0.04999999999999999}','AML','["AML"]','report','[]','{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',12.0,20.0,'[[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]','{"capture_ms": 0.0, "queue_ms": 4.0, "decode_ms": 2.0, "inference_ms": 6.0}','506407b33a3f33b39285a24f777b1fc4154c6695875af40d9e160f56ea04b5a6',0);
INSERT INTO "diagnoses" VALUES(2,'00000000000000000000000000000002','9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c',1,'HL-0001','ward','scope-1','worker-1','2026-01-31 12:01:00.000000','2026-11-22 23:26:40.894633','{"name": "resnet34-test", "version": "1.0.0", "weights_sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c", "architecture": "resnet34", "engine": "openvino-bf16", "training_data": "test images", "simulated": false}','{"healthy": 0.03749999999999998, "ALL": 0.03749999999999998, "AML": 0.8500000000000001, "CLL": 0.03749999999999998, "CML": 0.03749999999999998}','AML','["AML"]','report','[]','{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',12.0,20.0,'[[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]','{"capture_ms": 0.0, "queue_ms": 4.0, "decode_ms": 2.0, "inference_ms": 6.0}','7226aa868871d19b3b841c04dd58e6ecdb42c0a3269f32c8d6ef4ebd00ba9473',0);
INSERT INTO "diagnoses" VALUES(3,'00000000000000000000000000000003','9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c',1,'HL-0001','ward','scope-1','worker-1','2026-01-31 12:01:00.000000','2026-11-22 23:26:40.895951','{"name": "resnet34-test", "version": "1.0.0", "weights_sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c", "architecture": "resnet34", "engine": "openvino-bf16", "training_data": "test images", "simulated": false}','{"healthy": 0.024999999999999994, "ALL": 0.024999999999999994, "AML": 0.9, "CLL": 0.024999999999999994, "CML": 0.024999999999999994}','AML','["AML"]','report','[]','{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',12.0,20.0,'[[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]]','{"capture_ms": 0.0, "queue_ms": 4.0, "decode_ms": 2.0, "inference_ms": 6.0}','c4bfd8c802ad64070f6c3b7d73e7afbb1e5669b07cc07f42364a64e323a313bc',0);
CREATE TABLE frames (
	frame_id VARCHAR(32) NOT NULL, 
	case_id INTEGER NOT NULL, 
	site VARCHAR(48) NOT NULL, 
	device VARCHAR(48) NOT NULL, 
	priority VARCHAR(10) NOT NULL, 
	sequence BIGINT NOT NULL, 
	captured_at DATETIME NOT NULL, 
	received_at DATETIME NOT NULL, 
	recorded_at DATETIME, 
	encoding VARCHAR(5) NOT NULL, 
	width INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	pixel_size_um DOUBLE, 
	exposure_ms DOUBLE, 
	focus_um DOUBLE, 
	stage_x_um DOUBLE, 
	stage_y_um DOUBLE, 
	capture_ms DOUBLE NOT NULL, 
	quality JSON NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	image_sha256 VARCHAR(64) NOT NULL, 
	image_bytes INTEGER NOT NULL, 
	PRIMARY KEY (frame_id), 
	FOREIGN KEY(case_id) REFERENCES cases (id)
);
INSERT INTO "frames" VALUES('00000000000000000000000000000001',1,'ward','scope-1','routine',1,'2026-01-31 12:00:00.000000','2026-11-22 23:26:40.884348','2026-11-22 23:26:40.892773','jpeg',160,120,0.5,NULL,NULL,NULL,NULL,0.0,'{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',0,'506407b33a3f33b39285a24f777b1fc4154c6695875af40d9e160f56ea04b5a6',10830);
INSERT INTO "frames" VALUES('00000000000000000000000000000002',1,'ward','scope-1','routine',2,'2026-01-31 12:00:01.000000','2026-11-22 23:26:40.888380','2026-11-22 23:26:40.895169','jpeg',160,120,0.5,NULL,NULL,NULL,NULL,0.0,'{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',0,'7226aa868871d19b3b841c04dd58e6ecdb42c0a3269f32c8d6ef4ebd00ba9473',10817);
INSERT INTO "frames" VALUES('00000000000000000000000000000003',1,'ward','scope-1','routine',3,'2026-01-31 12:00:02.000000','2026-11-22 23:26:40.890138','2026-11-22 23:26:40.896417','jpeg',160,120,0.5,NULL,NULL,NULL,NULL,0.0,'{"focus": 0.0, "focus_threshold": 0.0, "brightness": 0.0, "saturated": 0.0, "foreground": 0.0, "flags": ["soft_focus"]}',0,'c4bfd8c802ad64070f6c3b7d73e7afbb1e5669b07cc07f42364a64e323a313bc',10827);
INSERT INTO "frames" VALUES('00000000000000000000000000000004',2,'ward','scope-1','routine',4,'2026-01-31 12:00:03.000000','2026-11-22 23:26:40.907866',NULL,'jpeg',160,120,0.5,NULL,NULL,NULL,NULL,0.0,'{"focus": 40.0, "focus_threshold": 10.0, "brightness": 0.7, "saturated": 0.0, "foreground": 0.3, "flags": []}',0,'26c76240af3ba08c9b138b3e83d2a0feb472a44c54b0afaf81641605ce457886',10859);
INSERT INTO "frames" VALUES('00000000000000000000000000000005',2,'ward','scope-1','routine',5,'2026-01-31 12:00:04.000000','2026-11-22 23:26:40.909522',NULL,'jpeg',160,120,0.5,NULL,NULL,NULL,NULL,0.0,'{"focus": 40.0, "focus_threshold": 10.0, "brightness": 0.7, "saturated": 0.0, "foreground": 0.3, "flags": []}',0,'f8374123aac64b575c780d7b5aa400049be0b835a82107bab9ca8dedeb88a5d3',10885);
CREATE TABLE record_info (
	version INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "record_info" VALUES(1,'2026-11-22 23:26:40.869056');
CREATE TABLE rejections (
	id INTEGER NOT NULL, 
	frame_id VARCHAR(32), 
	case_code VARCHAR(40), 
	site VARCHAR(48) NOT NULL, 
	device VARCHAR(48) NOT NULL, 
	code VARCHAR(40) NOT NULL, 
	reason TEXT NOT NULL, 
	attempts INTEGER NOT NULL, 
	payload_bytes BIGINT NOT NULL, 
	payload_sha256 VARCHAR(64) NOT NULL, 
	worker VARCHAR(48) NOT NULL, 
	at DATETIME NOT NULL, 
	received_at DATETIME NOT NULL, 
	announced INTEGER NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (site, device, payload_sha256, code)
);
INSERT INTO "rejections" VALUES(1,'00000000000000000000000000000005','HL-0002','ward','scope-1','corrupt_image','the image cannot be decoded',1,10885,'f8374123aac64b575c780d7b5aa400049be0b835a82107bab9ca8dedeb88a5d3','worker-1','2026-01-31 12:00:00.000000','2026-11-22 23:26:40.911219',2);
CREATE TABLE tallies (
	name VARCHAR(40) NOT NULL, 
	code VARCHAR(40) NOT NULL, 
	count BIGINT NOT NULL, 
	last_at DATETIME NOT NULL, 
	last_detail TEXT NOT NULL, 
	PRIMARY KEY (name, code)
);
CREATE TABLE workers (
	worker VARCHAR(48) NOT NULL, 
	birth BIGINT NOT NULL, 
	presence VARCHAR(10) NOT NULL, 
	heard_at DATETIME NOT NULL, 
	state JSON NOT NULL, 
	PRIMARY KEY (worker)
);
INSERT INTO "workers" VALUES('w1',1,'online','2026-11-22 23:26:40.916615','{"schema_version": 1, "worker": "w1", "pool": "main", "presence": "online", "birth": 1, "at": "2026-01-31T12:00:00Z", "software": "", "model": null, "diagnosed": 0, "rejected": 0, "queued": 0, "frames_per_s": 0.0}');
CREATE INDEX ix_cases_worklist ON cases (urgency_rank, opened_at);
CREATE INDEX ix_cases_urgency ON cases (urgency);
CREATE INDEX ix_diagnoses_frame_id ON diagnoses (frame_id);
CREATE INDEX ix_diagnoses_joined ON diagnoses (joined);
CREATE INDEX ix_rejections_frame_id ON rejections (frame_id);
CREATE INDEX ix_frames_case_id ON frames (case_id);
CREATE INDEX ix_frames_image_sha256 ON frames (image_sha256);
CREATE INDEX ix_frames_recorded_at ON frames (recorded_at);
COMMIT;
